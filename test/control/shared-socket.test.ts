import { execFile } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { decodeContentIndex } from '../../src/assets/content-index.ts'
import { packArchive } from '../../src/assets/pack-archive.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { type Capability, guard, owner, type Routes } from '../../src/control/access.ts'
import type { TokenRequest } from '../../src/control/api.ts'
import { ControlClient } from '../../src/control/client.ts'
import { createControlServer } from '../../src/control/server.ts'
import { groupId } from '../../src/control/sockets.ts'
import { AccessTokens } from '../../src/control/tokens.ts'
import { temporaryDirectory } from '../temporary.ts'
import { MemoryNode } from './memory-node.ts'

const exec = promisify(execFile)
const group = process.getgid?.() ?? 0

let home: string
let shared: string
let uploadDirectory: string
let node: MemoryNode
let records: MemoryKeyValue
let tokens: AccessTokens
let server: ReturnType<typeof createControlServer>
let client: ControlClient
let now: number
let logged: { fields: Record<string, unknown>; message: string }[]

beforeEach(async () => {
  home = temporaryDirectory('catalog-control-')
  const directory = temporaryDirectory('catalog-shared-')
  chmodSync(directory, 0o755)
  shared = join(directory, 'shared.sock')
  uploadDirectory = join(home, 'uploads')
  node = new MemoryNode()
  records = new MemoryKeyValue()
  now = Date.UTC(2026, 10, 22)
  logged = []
  await restart()
  node.add('acme/tool', '1.0.0', new Map([['main.py', Buffer.from('print(1)')]]))
  node.add('other', '1.0.0', new Map([['a', Buffer.from('x')]]))
})
afterEach(() => server.stop())

async function restart(options = {}) {
  await server?.stop()
  tokens = new AccessTokens({ records, now: () => now })
  await tokens.start()
  const line = (fields: Record<string, unknown>, message: string) => void logged.push({ fields, message })
  const log = { error: line, warn: line, info: line, debug: () => undefined }
  server = createControlServer(
    { api: node, tokens, log },
    {
      socketPath: join(home, 'control.sock'),
      uploadDirectory,
      shared: { path: shared, group },
      ...options,
    },
  )
  await server.start()
  client = new ControlClient({ socketPath: join(home, 'control.sock') })
}

const make = (request: Partial<TokenRequest> = {}) =>
  client.createToken({ label: 'ann', can: ['fetch', 'publish', 'execute', 'replicate'], ...request })

const clientOf = (token: string) => new ControlClient({ socketPath: shared, token: async () => token })
const guest = async (request: Partial<TokenRequest> = {}) => clientOf((await make(request)).token)

// biome-ignore lint/suspicious/noExplicitAny: the tests look into answers of every shape
type Json = any

function call(
  method: string,
  path: string,
  options: {
    token?: string
    body?: string | Buffer
    headers?: Record<string, string>
    socketPath?: string
  } = {},
) {
  const { token, body, socketPath = shared } = options
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...options.headers,
  }
  return new Promise<{ status: number; headers: Record<string, unknown>; body: Buffer; json: Json }>(
    (resolve, reject) => {
      const request = httpRequest({ socketPath, method, path, agent: false, headers }, async response => {
        const bytes = Buffer.concat(await response.toArray())
        const isJson = String(response.headers['content-type']).startsWith('application/json')
        const json = isJson && bytes.length > 0 ? JSON.parse(bytes.toString()) : undefined
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes, json })
      })
      request.on('error', reject)
      request.end(body)
    },
  )
}

const left = () => readdirSync(uploadDirectory)
const stillServes = async () => {
  expect((await client.status()).peerId).toBe('12D3KooWMemory')
  await vi.waitFor(() => expect(left()).toEqual([]))
}

const manifest = (name: string) =>
  JSON.stringify({
    apiVersion: 'catalog.v1',
    kind: 'AssetPackage',
    metadata: { name, version: '1.0.0' },
    spec: { description: 'A package' },
  })

function archiveOf(files: Readonly<Record<string, string>>): AsyncIterable<Uint8Array> {
  const entries = Object.entries(files).map(([path, text]) => ({
    kind: 'file' as const,
    path,
    mode: 0o644,
    size: Buffer.byteLength(text),
    text,
  }))
  return packArchive(entries, async function* ({ text }) {
    yield Buffer.from(text)
  })
}

const bytesOf = async (archive: AsyncIterable<Uint8Array>) =>
  Buffer.concat(await Readable.from(archive).toArray())

describe('the shared socket', () => {
  it('belongs to its group, and is not there unless it is configured', async () => {
    const { mode, gid } = statSync(shared)
    expect([mode & 0o777, gid]).toEqual([0o660, group])
    await server.stop()
    expect(existsSync(shared)).toBe(false)
    await restart({ shared: undefined })
    expect(existsSync(shared)).toBe(false)
  })

  it('finds its group by name or number', async () => {
    expect(await groupId('root')).toBe(0)
    expect(await groupId(100)).toBe(100)
    expect(await groupId('4242')).toBe(4242)
    await expect(groupId('no-such-group')).rejects.toMatchObject({
      code: 'invalid-config',
      message: expect.stringContaining('groupadd no-such-group'),
    })
  })

  it.each([
    ['its directory is open to others', 0o777],
    ['its directory is open to a group', 0o775],
    ['its directory is sticky, and others may be there first', 0o1777],
  ])('is not made where %s', async (_what, mode) => {
    const directory = join(temporaryDirectory('catalog-open-'), 'inner')
    mkdirSync(directory)
    chmodSync(directory, mode)
    await expect(restart({ shared: { path: join(directory, 's'), group } })).rejects.toMatchObject({
      code: 'forbidden',
      message: expect.stringContaining('control.shared.path'),
    })
    // Neither is the first one: a daemon starts as it is configured, or not at all.
    expect(existsSync(join(home, 'control.sock'))).toBe(false)
  })

  it('is not made below a directory of another user, nor where there is none', async context => {
    await expect(restart({ shared: { path: join(home, 'absent/s'), group } })).rejects.toMatchObject({
      code: 'invalid-config',
    })
    if (process.getuid?.() !== 0) return context.skip('only root can make one')
    const foreign = temporaryDirectory('catalog-foreign-')
    mkdirSync(join(foreign, 'ours'))
    chownSync(foreign, 12345, 12345)
    await expect(restart({ shared: { path: join(foreign, 'ours/s'), group } })).rejects.toMatchObject({
      code: 'forbidden',
      message: expect.stringContaining('12345'),
    })
  })

  it('that a killed daemon left is replaced, a living one respected, a file left alone', async () => {
    await server.stop()
    const script = `require('node:net').createServer().listen(${JSON.stringify(shared)}, () => process.kill(process.pid, 'SIGKILL'))`
    await exec(process.execPath, ['-e', script]).catch(() => undefined)
    expect(existsSync(shared)).toBe(true)
    await restart()
    const second = createControlServer(
      { api: node, tokens, log: { error() {}, warn() {}, info() {}, debug() {} } },
      {
        socketPath: join(temporaryDirectory('catalog-second-'), 'control.sock'),
        uploadDirectory: join(temporaryDirectory('catalog-second-'), 'uploads'),
        shared: { path: shared, group },
      },
    )
    await expect(second.start()).rejects.toMatchObject({ code: 'already-running' })
    await (await guest()).status()
    await server.stop()
    writeFileSync(shared, 'precious')
    await expect(restart()).rejects.toMatchObject({ code: 'output-exists' })
  })

  it('does not lose what goes on when the other is flooded', async () => {
    await restart({ maxConnections: 20 })
    const sockets = Array.from({ length: 40 }, () => connect(shared).on('error', () => undefined))
    await stillServes()
    for (const socket of sockets) socket.destroy()
  })
})

describe('a token', () => {
  it('is shown once, and kept as a hash', async () => {
    const { token, ...view } = await make({ label: 'ci', can: ['fetch'], names: ['acme/*', 'tool'] })
    expect(token).toMatch(/^catalog-token-[A-Za-z0-9_-]{43}$/)
    expect(view).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{16}$/),
      label: 'ci',
      can: ['fetch'],
      names: ['acme/*', 'tool'],
      createdAt: '2026-11-22T00:00:00.000Z',
      expiresAt: '2026-12-22T00:00:00.000Z',
      expired: false,
    })
    expect(await client.tokens()).toEqual([view])
    const secret = token.slice('catalog-token-'.length)
    for await (const [key, value] of records.entries({ prefix: '' })) {
      expect(key + Buffer.from(value).toString('latin1')).not.toContain(secret)
      expect(Buffer.from(value).includes(Buffer.from(secret, 'base64url'))).toBe(false)
    }
  })

  it('admits across a restart, until it expires or is revoked', async () => {
    const { token, id } = await make({ expiresSeconds: 60 })
    await restart()
    expect((await clientOf(token).status()).peers).toBe(2)
    now += 59_999
    expect((await clientOf(token).status()).peers).toBe(2)
    now += 1
    await expect(clientOf(token).status()).rejects.toMatchObject({ code: 'token-invalid' })
    expect((await client.tokens())[0]?.expired).toBe(true)
    const lasting = await make()
    // Expired ones go when another is made.
    expect((await client.tokens()).map(each => each.id)).toEqual([lasting.id])
    await expect(client.revokeToken(id)).rejects.toMatchObject({ code: 'not-found' })
    await client.revokeToken(lasting.id)
    await expect(clientOf(lasting.token).status()).rejects.toMatchObject({ code: 'token-invalid' })
    await restart()
    expect(await client.tokens()).toEqual([])
  })

  it('that is revoked ends what goes on with it', async () => {
    const { token, id } = await make()
    node.delayMs = 60_000
    const work = clientOf(token).fetch({ refs: ['acme/tool'] })
    work.catch(() => undefined)
    await vi.waitFor(() => expect(node.signals).toHaveLength(1))
    await client.revokeToken(id)
    await expect(work).rejects.toMatchObject({ code: 'token-invalid' })
    const other = await make()
    const running = clientOf(other.token).execute({ ref: 'acme/tool', on: 'auto', args: ['sleep'], env: {} })
    running.catch(() => undefined)
    await vi.waitFor(async () => expect(await client.executions()).toHaveLength(1))
    await client.revokeToken(other.id)
    await expect(running).rejects.toMatchObject({ code: 'token-invalid' })
    await vi.waitFor(async () => expect((await client.executions())[0]?.state).toBe('cancelled'))
  })

  it.each([
    [{}, 401],
    [{ authorization: 'Bearer' }, 401],
    [{ authorization: 'Bearer catalog-token-' }, 401],
    [{ authorization: `Bearer catalog-token-${'A'.repeat(43)}` }, 401],
    [{ authorization: `Basic ${Buffer.from('a:b').toString('base64')}` }, 401],
    [{ authorization: `Bearer ${'x'.repeat(20_000)}` }, 401],
  ])('is needed: %o', async (headers, status) => {
    for (const path of ['/v1/status', '/v1/openapi.json', '/v1/nothing']) {
      const answer = await call('GET', path, { headers })
      expect([answer.status, answer.json.error.code]).toEqual([status, 'token-invalid'])
      expect(answer.headers['www-authenticate']).toBe('Bearer')
    }
  })

  it('tried out in a loop is slowed, told of once, and disturbs nobody', async () => {
    const { token } = await make()
    const wrong = `catalog-token-${'B'.repeat(43)}`
    const started = performance.now()
    const tries = Array.from({ length: 60 }, () => call('GET', '/v1/status', { token: wrong }))
    expect((await clientOf(token).status()).peers).toBe(2)
    const statuses = (await Promise.all(tries)).map(({ status }) => status)
    expect(performance.now() - started).toBeGreaterThan(450)
    expect(new Set(statuses)).toEqual(new Set([401, 429]))
    const warnings = logged.filter(({ message }) => message.includes('no valid token'))
    expect(warnings).toHaveLength(1)
    expect(JSON.stringify(logged)).not.toContain(wrong)
  })

  it.each([
    { label: '' },
    { label: 'a\nb' },
    { can: [] },
    { can: ['administer'] },
    { can: ['fetch', 'fetch'] },
    { names: [] },
    { names: ['../x'] },
    { names: ['a*b'] },
    { expiresSeconds: 0 },
    { expiresSeconds: 1e9 },
  ])('is not made with %o', async part => {
    const work = client.createToken({ label: 'x', can: ['fetch'], ...part } as TokenRequest)
    await expect(work).rejects.toMatchObject({ code: 'invalid-request' })
  })
})

const calls: readonly (readonly [Capability, string, string, string?])[] = [
  ['fetch', 'GET', '/v1/status'],
  ['fetch', 'GET', '/v1/peers'],
  ['fetch', 'GET', '/v1/announcements'],
  ['fetch', 'GET', '/v1/releases'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool'],
  ['administer', 'DELETE', '/v1/releases/acme%2Ftool'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool/files/main.py'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool/archive'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool/index'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool/content'],
  ['fetch', 'GET', '/v1/releases/acme%2Ftool/replicas'],
  ['replicate', 'POST', '/v1/releases/acme%2Ftool/replicas', '{"factor":2}'],
  ['fetch', 'GET', '/v1/search?q=tool'],
  ['publish', 'POST', '/v1/publish', '{"path":"/x"}'],
  ['fetch', 'POST', '/v1/fetch', '{"refs":["acme/tool"]}'],
  ['execute', 'POST', '/v1/execute', '{"ref":"acme/tool"}'],
  ['execute', 'GET', '/v1/executions'],
  ['execute', 'GET', '/v1/executions/run-1'],
  ['execute', 'GET', '/v1/executions/run-1/logs'],
  ['execute', 'GET', '/v1/executions/run-1/archive'],
  ['execute', 'POST', '/v1/executions/run-1/result', '{"out":"/x"}'],
  ['execute', 'POST', '/v1/executions/run-1/cancel'],
  ['replicate', 'POST', '/v1/pin', '{"ref":"acme/tool"}'],
  ['administer', 'POST', '/v1/gc', '{}'],
  ['administer', 'POST', '/v1/check', '{}'],
  ['administer', 'POST', '/v1/drain', '{}'],
  ['administer', 'GET', '/v1/tokens'],
  ['administer', 'POST', '/v1/tokens', '{"label":"x","can":["fetch"]}'],
  ['administer', 'DELETE', '/v1/tokens/0123456789abcdef'],
  ['fetch', 'GET', '/v1/openapi.json'],
]

describe('a capability', () => {
  it('is needed for each call, and no other is enough', async () => {
    const grantable = ['fetch', 'publish', 'execute', 'replicate'] as const
    const texts = new Map<string, string>()
    for (const only of grantable) texts.set(only, (await make({ can: [only] })).token)
    for (const [requires, method, path, body] of calls)
      for (const only of grantable) {
        const answer = await call(method, path, {
          token: texts.get(only) as string,
          ...(body === undefined ? {} : { body }),
        })
        const refused = answer.json?.error?.code === 'capability-missing'
        expect(refused, `${only} for ${method} ${path}`).toBe(only !== requires)
        if (refused) expect([answer.status, answer.json.error.capability]).toEqual([403, requires])
      }
  })

  it('that a route does not declare does not compile', () => {
    const routes = { get: () => undefined } as unknown as Routes
    // @ts-expect-error: it has no config.requires
    routes.get('/v1/forgotten', { schema: {} }, () => 'x')
    routes.get('/v1/declared', { config: { requires: 'fetch' } }, () => 'x')
  })

  it('is declared by every route that there is', async () => {
    const app = Fastify()
    guard(app, async () => owner)
    expect(() => app.get('/v1/forgotten', () => 'x')).toThrow('declares no capability')
    const { json } = await call('GET', '/v1/openapi.json', { socketPath: join(home, 'control.sock') })
    for (const [path, methods] of Object.entries<Record<string, Json>>(json.paths))
      for (const [method, { description }] of Object.entries(methods))
        expect(description, `${method} ${path}`).toMatch(
          /^Requires the capability (fetch|publish|execute|replicate|administer)\.$/,
        )
  })
})

describe('a token with names', () => {
  it('executes and keeps what they allow, by name or by id', async () => {
    const ann = await guest({ names: ['acme/*'] })
    const request = { on: 'auto', args: ['exit', '0'], env: {} }
    const ids = new Map([...node.releasesById.values()].map(({ name, id }) => [name, id]))
    for (const ref of ['acme/tool', 'acme/tool@^1', ids.get('acme/tool') as string]) {
      expect((await ann.execute({ ...request, ref: ref.replace('@^1', '@1.0.0') })).state).toBe('succeeded')
      expect((await ann.pin({ ref: ref.replace('@^1', '@1.0.0') })).pinned).toBe(true)
    }
    for (const ref of ['other', 'other@1.0.0', ids.get('other') as string]) {
      await expect(ann.execute({ ...request, ref })).rejects.toMatchObject({
        code: 'capability-missing',
        message: expect.stringContaining('acme/*'),
      })
      await expect(ann.pin({ ref })).rejects.toMatchObject({ code: 'capability-missing' })
      await expect(ann.setReplicas(ref, 2)).rejects.toMatchObject({ code: 'capability-missing' })
    }
    // What the network has is no secret from a member.
    expect(await ann.releases(false)).toHaveLength(2)
    expect((await ann.show('other')).name).toBe('other')
  })

  it('publishes what they allow', async () => {
    const ann = await guest({ names: ['acme/*'] })
    const files = { 'catalog.json': manifest('acme/new'), 'main.py': 'print(2)' }
    expect(await ann.publishArchive(archiveOf(files))).toMatchObject({ name: 'acme/new', files: 2 })
    await expect(
      ann.publishArchive(archiveOf({ ...files, 'catalog.json': manifest('mine') })),
    ).rejects.toMatchObject({ code: 'capability-missing', data: { name: 'mine' } })
    // Whichever manifest would count.
    await expect(
      ann.publishArchive(archiveOf({ ...files, 'catalog.yaml': manifest('mine') })),
    ).rejects.toMatchObject({ code: 'capability-missing' })
    expect([...node.releasesById.values()].map(({ name }) => name)).toEqual([
      'acme/tool',
      'other',
      'acme/new',
    ])
    await stillServes()
  })
})

describe('executions', () => {
  it('are seen by the token that started them alone, also after a restart', async () => {
    const [a, b] = [await make({ label: 'a' }), await make({ label: 'b' })]
    const request = { ref: 'acme/tool', on: 'auto', args: ['secret'], env: {} }
    await client.execute(request)
    const view = await clientOf(a.token).execute(request)
    await restart()
    const [ann, bob] = [clientOf(a.token), clientOf(b.token)]
    expect((await ann.executions()).map(({ id }) => id)).toEqual([view.id])
    expect((await ann.execution(view.id)).stdout).toContain('secret')
    expect(await bob.executions()).toEqual([])
    for (const id of ['run-1', view.id, 'run-9'])
      for (const look of [
        () => bob.execution(id),
        () => bob.cancel(id),
        () => Readable.from(bob.logs(id)).toArray(),
        () => Readable.from(bob.logs(id, { follow: true })).toArray(),
        () => bob.index({ execution: id }),
      ])
        await expect(look()).rejects.toMatchObject({ code: 'no-such-execution' })
    expect(await client.executions()).toHaveLength(2)
    const index = decodeContentIndex(await ann.index({ execution: view.id }))
    expect(index.entries.map(({ path }) => path)).toEqual(['out.txt'])
  })
})

describe('paths of the server', () => {
  it.each([
    ['/v1/publish', '{"path":"/etc"}', 'application/x-tar'],
    ['/v1/fetch', '{"refs":["acme/tool"],"out":"/tmp/x"}', '/archive'],
    ['/v1/fetch', '{"refs":["acme/tool"],"outParent":"/tmp"}', '/archive'],
    ['/v1/executions/run-1/result', '{"out":"/tmp/x"}', '/archive'],
  ])('are refused: %s %s', async (path, body, instead) => {
    const { token } = await make()
    const { status, json } = await call('POST', path, { token, body })
    expect([status, json.error.code]).toEqual([400, 'invalid-request'])
    expect(json.error.message).toContain(instead)
  })
})

describe('what a token is told', () => {
  it('is no path of the server’s', async () => {
    const ann = await guest()
    expect((await ann.status()).home).toBe('')
    node.publish = async ({ path }) => {
      throw new CatalogError('invalid-package', `${path} is no package: ${path}/a is a FIFO.`, {
        path: `${path}/a`,
      })
    }
    await expect(ann.publishArchive(archiveOf({ a: 'x' }))).rejects.toMatchObject({
      code: 'invalid-package',
      message: 'The archive is no package: a is a FIFO.',
      data: { path: 'a' },
    })
  })
})

describe('content', () => {
  it('comes as an archive that tar reads, as an index and as bytes by range', async () => {
    const text = 'x'.repeat(300_000)
    const { id } = node.add(
      'acme/big',
      '1.0.0',
      new Map([
        ['a/b.txt', Buffer.from(text)],
        ['c', Buffer.from('end')],
      ]),
    )
    const { token } = await make({ can: ['fetch'] })
    const answer = await call('GET', `/v1/releases/${id}/archive`, { token })
    expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/x-tar'])
    writeFileSync(join(home, 'big.tar'), answer.body)
    const { stdout } = await exec('tar', ['-xOf', join(home, 'big.tar'), 'a/b.txt'], { maxBuffer: 1e6 })
    expect(stdout).toBe(text)
    const ann = clientOf(token)
    const { root } = await node.content(id)
    const index = decodeContentIndex(await ann.index({ release: id }), root)
    expect(index.size).toBe(300_003)
    const part = await Readable.from(ann.content({ release: id }, 299_998, 4)).toArray()
    expect(Buffer.concat(part).toString()).toBe('xxen')
    const head = await call('HEAD', `/v1/releases/${id}/archive`, { token })
    expect([head.status, head.body.length]).toEqual([200, 0])
    expect((await call('GET', '/v1/releases/nothing/archive', { token })).json.error.code).toBe('not-found')
  })

  it('is read no faster than it is taken', async () => {
    let read = 0
    const { index, root } = await node.content('acme/tool')
    const size = 1e9
    const entry = { ...index.entries[0], kind: 'file' as const, path: 'big', size, offset: 0 }
    node.content = async () => ({
      root,
      index: { ...index, size, entries: [entry as never] },
      async *read() {
        for (; read < size; read += 65_536) yield Buffer.alloc(65_536)
      },
    })
    const { token } = await make()
    const socket = connect(shared).on('error', () => undefined)
    socket.pause()
    socket.write(
      `GET /v1/releases/acme%2Ftool/archive HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`,
    )
    await vi.waitFor(() => expect(read).toBeGreaterThan(0))
    await new Promise(resolve => setTimeout(resolve, 300))
    expect(read).toBeLessThan(10_000_000)
    socket.destroy()
    await stillServes()
  })

  it('goes in as an archive, on the owner’s socket too, and by curl', async () => {
    const files = { 'catalog.json': manifest('acme/new'), 'src/main.py': 'print(2)' }
    expect(await client.publishArchive(archiveOf(files))).toMatchObject({ name: 'acme/new', files: 2 })
    const { token } = await make()
    writeFileSync(
      join(home, 'p.tar'),
      await bytesOf(archiveOf({ ...files, 'catalog.json': manifest('acme/curl') })),
    )
    const curl = [
      '-sS',
      '--unix-socket',
      shared,
      '-H',
      `Authorization: Bearer ${token}`,
      '-T',
      join(home, 'p.tar'),
    ]
    const { stdout } = await exec('curl', [
      ...curl,
      '-X',
      'POST',
      '-H',
      'content-type: application/x-tar',
      'http://catalog/v1/publish?replicas=2',
    ])
    expect(JSON.parse(stdout.trim().split('\n').at(-1) ?? '').result.name).toBe('acme/curl')
    await stillServes()
  })
})

const publish = (token: string, body: string | Buffer, headers: Record<string, string> = {}) =>
  call('POST', '/v1/publish', { token, body, headers: { 'content-type': 'application/x-tar', ...headers } })

describe('abuse of uploads', () => {
  it('no archive, none that is taken, or one for another call: a code, and nothing is left', async () => {
    const { token } = await make()
    const climbing = await bytesOf(archiveOf({ '../evil': 'x' }))
    for (const body of ['', 'hello', '{"path":"/etc"}', climbing, Buffer.alloc(100_000, 7)]) {
      const { status, json } = await publish(token, body)
      // An empty archive is an empty directory: that is for who publishes to refuse.
      if (body.length > 0) expect([status, json.error.code]).toEqual([422, 'invalid-package'])
    }
    for (const [path, method] of [
      ['/v1/fetch', 'POST'],
      ['/v1/pin', 'POST'],
      ['/v1/tokens', 'POST'],
    ] as const) {
      const headers = { 'content-type': 'application/x-tar' }
      const answer = await call(method, path, { socketPath: join(home, 'control.sock'), body: 'x', headers })
      expect([answer.status, answer.json.error.code]).toEqual([400, 'invalid-request'])
    }
    const wrong = await publish(token, climbing, { 'content-type': 'application/x-tar; charset=utf-8' })
    expect(wrong.json.error.code).toBe('invalid-package')
    expect(existsSync(join(home, 'evil'))).toBe(false)
    await stillServes()
  })

  it('an upload without the capability is answered while it is sent, and cut off', async () => {
    const ann = await guest({ can: ['fetch'] })
    let sent = 0
    async function* endless() {
      for (;;) {
        sent += 65_536
        yield Buffer.alloc(65_536)
      }
    }
    await expect(ann.publishArchive(endless())).rejects.toMatchObject({ code: 'capability-missing' })
    const bob = await guest()
    await expect(bob.publishArchive(endless())).rejects.toMatchObject({ code: 'invalid-package' })
    expect(sent).toBeLessThan(50_000_000)
    await stillServes()
  })

  it('whoever goes on sending after the answer is cut off', async () => {
    const { token } = await make({ can: ['fetch'] })
    const socket = connect(shared)
    socket.write(
      `POST /v1/publish HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/x-tar\r\ntransfer-encoding: chunked\r\n\r\n`,
    )
    socket.resume()
    const sending = setInterval(() => socket.write('3\r\nabc\r\n'), 50)
    const started = performance.now()
    await new Promise(resolve => socket.once('close', resolve).on('error', () => undefined))
    clearInterval(sending)
    expect(performance.now() - started).toBeLessThan(10_000)
    await stillServes()
  })

  it('more than there is room for is refused before it fills the disk', async () => {
    const status = await node.status()
    node.status = async () => ({ ...status, freeBytes: 1_000_000 })
    const ann = await guest()
    const big = packArchive([{ kind: 'file', path: 'big', mode: 0o644, size: 5e9 }], async function* () {
      for (let at = 0; at < 5e9; at += 1e6) yield Buffer.alloc(1e6)
    })
    await expect(ann.publishArchive(big)).rejects.toMatchObject({ code: 'quota-exceeded' })
    await stillServes()
  })

  it('slow ones are given up, many are bounded, and one that is left leaves nothing', async () => {
    await restart({ maxUploads: 2, uploadPatienceMs: 700 })
    const { token } = await make()
    const start = `POST /v1/publish HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/x-tar\r\ncontent-length: 100000\r\n\r\n`
    const slow = Array.from({ length: 2 }, () => {
      const socket = connect(shared).on('error', () => undefined)
      socket.write(start)
      let text = ''
      socket.on('data', chunk => {
        text += chunk
      })
      return new Promise<string>(resolve => socket.once('close', () => resolve(text)))
    })
    await vi.waitFor(() => expect(left()).toHaveLength(2))
    expect((await publish(token, 'x')).json.error.code).toBe('busy')
    for (const text of await Promise.all(slow)) {
      expect(text).toContain(' 504 ')
      expect(text).toContain('"timeout"')
    }
    const gone = connect(shared).on('error', () => undefined)
    gone.write(start)
    await vi.waitFor(() => expect(left()).toHaveLength(1))
    gone.destroy()
    await stillServes()
  })

  it('large inputs are bounded together, headers each', async () => {
    const { token } = await make()
    const waiting = Array.from({ length: 8 }, () => {
      const socket = connect(shared).on('error', () => undefined)
      socket.write(
        `POST /v1/execute HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-length: 20000000\r\n\r\n{`,
      )
      return socket
    })
    const input = { ref: 'acme/tool', on: 'auto', args: [], env: {}, inputBase64: 'A'.repeat(2_000_000) }
    await vi.waitFor(async () => {
      const answer = await call('POST', '/v1/execute', { token, body: JSON.stringify(input) })
      expect(answer.json?.error?.code).toBe('busy')
    })
    expect((await clientOf(token).execute({ ...input, inputBase64: 'AAAA' })).state).toBe('succeeded')
    for (const socket of waiting) socket.destroy()
    await vi.waitFor(async () => expect((await clientOf(token).execute(input)).state).toBe('succeeded'))
    const filled = await call('GET', '/v1/status', { token, headers: { filler: 'y'.repeat(100_000) } })
    expect(filled.status).toBe(431)
    await stillServes()
  })

  it('what a killed daemon was receiving goes at the next start', async () => {
    await server.stop()
    mkdirSync(join(uploadDirectory, 'left/deep'), { recursive: true })
    writeFileSync(join(uploadDirectory, 'left/deep/file'), 'x')
    await restart()
    expect(left()).toEqual([])
  })
})
