// A second local user on a real daemon's shared socket: another uid, without any right to the home.
import { spawn } from 'node:child_process'
import { access, chmod, chown, constants, cp, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { CreatedToken, ExecutionView, FetchResult, PublishResult } from '../../src/control/api.ts'
import { type Outcome, outcomeOf, program } from '../cli/outcome.ts'
import { temporaryDirectory } from '../temporary.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const isRoot = process.getuid?.() === 0
const guestId = 65_534
const laboratory = new Laboratory()
let node: TestNode
let work: string
let socket: string
let tokenFile: string

/** Who may open the socket: the guest's group, where there can be a guest. */
const group = isRoot ? guestId : (process.getgid?.() ?? 0)
const sharedBy = () => ({
  ...process.env,
  CATALOG_CONTROL_SHARED_PATH: socket,
  CATALOG_CONTROL_SHARED_GROUP: String(group),
})

beforeAll(async () => {
  const directory = temporaryDirectory('catalog-shared-')
  await chmod(directory, 0o755)
  socket = join(directory, 'shared.sock')
  node = await laboratory.node('shared')
  await node.start([], sharedBy())
  work = temporaryDirectory('catalog-guest-')
  tokenFile = join(work, 'token')
  const token = await node.json<CreatedToken>(
    ...[
      'trust',
      'token',
      'create',
      '--label',
      'guest',
      '--can',
      'fetch,publish,execute',
      '--names',
      'guest/*',
    ],
  )
  await writeFile(tokenFile, `${token.token}\n`, { mode: 0o600 })
  if (isRoot) for (const path of [work, tokenFile]) await chown(path, guestId, guestId)
})

/** The command line as the other user, where there can be one. */
async function guest(args: readonly string[], gid = guestId): Promise<Outcome> {
  const child = spawn(process.execPath, [program, ...args, '--socket', socket, '--token-file', tokenFile], {
    cwd: work,
    env: { PATH: process.env['PATH'], HOME: work },
    ...(isRoot ? { uid: guestId, gid } : {}),
  })
  child.stdin.end()
  return outcomeOf(child)
}

async function guestJson<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await guest([...args, '--json'])
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as T
}

/** A package of the guest's that nobody else reads. */
async function packageOf(
  name: string,
  files: Record<string, string | Uint8Array>,
  spec = {},
): Promise<string> {
  const from = await laboratory.package(name, '1.0.0', files, spec)
  const directory = join(work, name.replace('/', '-'))
  await cp(from, directory, { recursive: true, verbatimSymlinks: true })
  if (isRoot)
    for (const path of ['.', ...(await readdir(directory, { recursive: true }))])
      await chown(join(directory, path), guestId, guestId)
  await chmod(directory, 0o700)
  return directory
}

describe('another user of the machine', () => {
  it('publishes and fetches what is theirs, and the daemon touches none of their files', async () => {
    const files = { 'src/main.py': 'print(1)\n', 'data.bin': Buffer.alloc(3_000_000, 'd'), 'a ä.txt': '' }
    const directory = await packageOf('guest/tool', files)
    await chmod(join(directory, 'src/main.py'), 0o755)
    const published = await guestJson<PublishResult>('publish', directory)
    // The same bytes as if the owner had published the directory.
    await expect(node.json<PublishResult>('publish', directory)).resolves.toMatchObject({
      id: published.id,
      created: false,
    })
    const fetched = await guestJson<FetchResult>('fetch', 'guest/tool')
    expect(fetched).toMatchObject({ root: published.root, out: join(work, 'guest-tool-1.0.0') })
    expect(await listTree(join(work, 'guest-tool-1.0.0'))).toEqual(await listTree(directory))
    if (isRoot) expect((await stat(join(work, 'guest-tool-1.0.0/data.bin'))).uid).toBe(guestId)
    expect((await guest(['cat', 'guest/tool', 'src/main.py'])).stdout).toBe('print(1)\n')
    expect(await readdir(join(node.home, 'uploads'))).toEqual([])
  })

  it('may not publish other names, nor ask for more than the token gives', async () => {
    const refused = await guest(['publish', await packageOf('owners', { a: 'x' })])
    expect([refused.code, refused.stderr]).toEqual([9, expect.stringContaining('guest/*')])
    const pinned = await guest(['pin', 'guest/tool'])
    expect([pinned.code, pinned.stderr]).toEqual([9, expect.stringContaining('replicate')])
    expect((await guest(['trust', 'token', 'list'])).code).toBe(9)
    expect((await node.client.releases(false)).map(({ name }) => name)).not.toContain('owners')
  })

  it('executes, and reads the outputs that are their own', async () => {
    await guestJson<PublishResult>(
      'publish',
      await packageOf(
        'guest/run',
        {
          'main.py':
            'import os\nout = os.environ["CATALOG_SCRATCH"] + "/out"\nos.mkdir(out)\nopen(out + "/result.txt", "w").write("42")\nprint("done")\n',
        },
        {
          execution: {
            runtime: 'python',
            entrypoint: 'main.py',
            outputs: 'out',
            memory_mb: 96,
            storage_mb: 16,
            timeout_config: { run_seconds: 20 },
          },
        },
      ),
    )
    const view = await guestJson<ExecutionView>('execute', 'guest/run', '--on', 'local')
    expect(view).toMatchObject({ state: 'succeeded', stdout: 'done\n' })
    expect((await guest(['result', view.id, '--out', 'results'])).code).toBe(0)
    expect(await readFile(join(work, 'results/result.txt'), 'utf8')).toBe('42')
    const owners = await node.json<ExecutionView>('execute', 'guest/run', '--on', 'local')
    expect((await guest(['executions', owners.id])).code).toBe(4)
  })

  it.runIf(isRoot)('who is not in the group is refused, and so is the home', async () => {
    const stranger = await guest(['status'], 12_345)
    expect([stranger.code, stranger.stderr]).toEqual([9, expect.stringContaining('group')])
    const script = `require('node:net').connect(${JSON.stringify(join(node.home, 'control.sock'))}).on('error', e => console.log(e.code))`
    const child = spawn(process.execPath, ['-e', script], { uid: guestId, gid: guestId })
    const [code] = await child.stdout.take(1).toArray()
    expect(String(code)).toContain('EACCES')
  })

  it('a daemon that is killed while it receives leaves nothing, and knows the token again', async () => {
    const token = (await readFile(tokenFile, 'utf8')).trim()
    const uploads = join(node.home, 'uploads')
    const upload = connect(socket).on('error', () => undefined)
    upload.write(
      `POST /v1/publish HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/x-tar\r\ncontent-length: 1000000\r\n\r\n`,
    )
    await until('it is receiving', async () => (await readdir(uploads)).length === 1)
    await node.end('SIGKILL')
    upload.destroy()
    expect(await readdir(uploads)).toHaveLength(1)
    await access(socket, constants.F_OK)
    await node.start([], sharedBy())
    expect(await readdir(uploads)).toEqual([])
    expect((await guest(['status'])).code).toBe(0)
    const { tokens } = await node.json<{ tokens: { id: string }[] }>('trust', 'token', 'list')
    await node.json('trust', 'token', 'revoke', tokens[0]?.id ?? '')
    const revoked = await guest(['status'])
    expect([revoked.code, revoked.stderr]).toEqual([9, expect.stringContaining('revoked')])
    await node.end('SIGTERM')
    await expect(access(socket, constants.F_OK)).rejects.toMatchObject({ code: 'ENOENT' })
  })
})
