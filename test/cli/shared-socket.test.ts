// The command line of another user, with --socket and --token-file: no file of theirs is the daemon's to touch.
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemoryNode } from '../control/memory-node.ts'
import { temporaryDirectory } from '../temporary.ts'
import { openShell, runCatalog, type Shell } from './shell.ts'

const node = new MemoryNode()
let shell: Shell
let work: string
let shared: string
let tokenFile: string

beforeAll(async () => {
  work = temporaryDirectory('catalog-work-')
  const directory = temporaryDirectory('catalog-shared-')
  shared = join(directory, 'shared.sock')
  tokenFile = join(work, 'token')
  shell = await openShell(node, { path: shared, group: process.getgid?.() ?? 0 })
  const files = new Map([
    ['main.py', Buffer.from('print(1)')],
    ['data/big', Buffer.alloc(400_000, 'b')],
  ])
  node.add('word-count', '1.2.0', files)
  const made = await catalog(
    'trust',
    'token',
    'create',
    '--label',
    'ann',
    '--can',
    'fetch,publish,execute',
    '--json',
  )
  writeFileSync(tokenFile, `${JSON.parse(made.stdout).token}\n`, { mode: 0o600 })
})
afterAll(() => shell.close())

const run = (args: readonly string[], env: Record<string, string>) => runCatalog(args, { cwd: work, env })
const catalog = (...args: string[]) => run(args, { CATALOG_HOME: shell.home })
const guest = (...args: string[]) => run([...args, '--socket', shared, '--token-file', tokenFile], {})

describe('catalog trust token', () => {
  it('makes, lists and revokes', async () => {
    const made = await catalog(
      'trust',
      'token',
      'create',
      '--label',
      'ci',
      '--names',
      'acme/*,tool',
      '--expires',
      '2h',
    )
    expect(made.stdout).toMatch(
      /^catalog-token-\S{43}\n\nThis is the token: it is not shown again\.\nId +[0-9a-f]{16}\n/,
    )
    expect(made.stdout).toMatch(/Can +fetch\n/)
    const { tokens } = JSON.parse((await catalog('trust', 'token', 'list', '--json')).stdout)
    expect(tokens.map((token: { label: string }) => token.label)).toEqual(['ann', 'ci'])
    expect((await catalog('trust', 'token', 'list')).stdout).toContain('acme/*,tool')
    const revoked = await catalog('trust', 'token', 'revoke', tokens[1].id)
    expect([revoked.code, revoked.stdout]).toEqual([0, `Revoked the token ${tokens[1].id} (ci).\n`])
    expect((await catalog('trust', 'token', 'revoke', tokens[1].id)).code).toBe(4)
  })

  it.each([
    [['create'], 'label'],
    [['create', '--label', 'x', '--expires', 'soon'], '90d'],
    [['create', '--label', 'x', '--can', 'administer'], 'can'],
    [['creat'], 'create'],
  ])('%j is refused, with what is right', async (args, words) => {
    const { code, stderr } = await catalog('trust', 'token', ...args)
    expect(code).toBe(2)
    expect(stderr).toContain(words)
  })

  it('is the owner’s alone', async () => {
    const { code, stderr } = await guest('trust', 'token', 'list')
    expect(code).toBe(9)
    expect(stderr).toContain('Only the owner of the node')
  })

  it('shows its help without a verb', async () => {
    const { code, stdout } = await catalog('trust', 'token')
    expect(code).toBe(0)
    expect(stdout).toContain('Usage: catalog trust token')
    expect((await catalog('trust')).stdout).toContain('Usage: catalog trust ')
  })
})

describe('through the shared socket', () => {
  it('publish sends the package, as a directory or a manifest alone', async () => {
    const directory = join(work, 'package')
    mkdirSync(join(directory, 'src'), { recursive: true })
    const spec = {
      description: 'With an inline binary',
      binaries: [{ path: 'inline.bin', base64: Buffer.from('inline').toString('base64') }],
    }
    const manifest = {
      apiVersion: 'catalog.v1',
      kind: 'AssetPackage',
      metadata: { name: 'sent', version: '1.0.0' },
      spec,
    }
    writeFileSync(join(directory, 'catalog.json'), JSON.stringify(manifest))
    writeFileSync(join(directory, 'src/run'), '#!/bin/sh\n', { mode: 0o755 })
    writeFileSync(join(directory, '.catalogignore'), 'secret\n')
    writeFileSync(join(directory, 'secret'), 'not sent')
    const published = await guest('publish', 'package', '--json')
    expect([published.code, published.stderr]).toEqual([0, ''])
    const { id } = JSON.parse(published.stdout)
    expect([...(node.contents.get(id)?.keys() ?? [])].sort()).toEqual([
      '.catalogignore',
      'catalog.json',
      'src/run',
    ])
    writeFileSync(
      join(work, 'alone.json'),
      JSON.stringify({ ...manifest, metadata: { name: 'alone', version: '1.0.0' } }),
    )
    expect((await guest('publish', 'alone.json', '--json')).code).toBe(0)
    const broken = await guest('publish', 'nothing')
    expect([broken.code, broken.stdout]).toEqual([4, ''])
    expect(readdirSync(join(shell.home, 'uploads'))).toEqual([])
  })

  it('fetch writes the files here, by the rules of fetch', async () => {
    const fetched = await guest('fetch', 'word-count', '--json')
    expect(JSON.parse(fetched.stdout)).toMatchObject({
      out: join(work, 'word-count-1.2.0'),
      name: 'word-count',
    })
    expect(readFileSync(join(work, 'word-count-1.2.0/data/big')).equals(Buffer.alloc(400_000, 'b'))).toBe(
      true,
    )
    expect((await guest('fetch', 'word-count')).code).toBe(0)
    mkdirSync(join(work, 'full'))
    writeFileSync(join(work, 'full/mine'), 'mine')
    const refused = await guest('fetch', 'word-count', '--out', 'full', '--json')
    expect([refused.code, JSON.parse(refused.stderr).error.code]).toEqual([6, 'output-exists'])
    expect((await guest('fetch', 'word-count', '--out', 'full', '--force')).code).toBe(0)
    expect(readdirSync(join(work, 'full')).sort()).toEqual(['data', 'main.py', 'mine'])
    const several = await guest('fetch', 'word-count', 'nothing', '--out', 'several', '--json')
    expect(several.code).toBe(4)
    expect(JSON.parse(several.stdout).results).toMatchObject([
      { out: join(work, 'several/word-count-1.2.0') },
      { ref: 'nothing', error: { code: 'not-found' } },
    ])
    const store = await guest('fetch', 'word-count', '--no-out', '--json')
    expect(JSON.parse(store.stdout)).not.toHaveProperty('out')
  })

  it('content that is not what was asked for is not written', async () => {
    const real = node.content.bind(node)
    node.content = async ref => ({ ...(await real(ref)), index: (await real('sent')).index })
    const { code, stderr } = await guest('fetch', 'word-count', '--out', 'forged', '--json')
    node.content = real
    expect([code, JSON.parse(stderr).error.code]).toEqual([7, 'corrupt-content'])
    expect(readdirSync(work)).not.toContain('forged')
  })

  it('everything else works, and execute leaves its outputs here', async () => {
    for (const args of [['status'], ['list'], ['search', 'word'], ['show', 'word-count'], ['peers']])
      expect((await guest(...args)).code, args[0]).toBe(0)
    expect((await guest('cat', 'word-count', 'main.py')).stdout).toBe('print(1)')
    const executed = await guest('execute', 'word-count', 'exit', '3', '--json')
    expect(executed.code).toBe(3)
    const { id } = JSON.parse(executed.stdout)
    const written = await guest('result', id, '--out', 'outputs')
    expect([written.code, written.stderr]).toEqual([0, ''])
    expect(readFileSync(join(work, 'outputs/out.txt'), 'utf8')).toBe(`the result of ${id}`)
    expect((await guest('remove', 'word-count')).code).toBe(9)
  })

  it('the socket and the token come from variables, and a home that is named goes before them', async () => {
    const env = { CATALOG_SOCKET: shared, CATALOG_TOKEN_FILE: tokenFile }
    expect((await run(['status'], env)).code).toBe(0)
    expect((await run(['trust', 'token', 'list'], env)).code).toBe(9)
    expect((await run(['trust', 'token', 'list', '--home', shell.home], env)).code).toBe(0)
  })

  it('a token that is missing, open to others or none is said', async () => {
    const none = await run(['status', '--socket', shared], {})
    expect([none.code, none.stderr]).toEqual([9, expect.stringContaining('--token-file')])
    const open = join(work, 'open-token')
    writeFileSync(open, readFileSync(tokenFile))
    chmodSync(open, 0o644)
    const refused = await run(['status', '--socket', shared, '--token-file', open], {})
    expect([refused.code, refused.stderr]).toEqual([9, expect.stringContaining('chmod 600')])
    const absent = await run(['status', '--socket', shared, '--token-file', join(work, 'absent')], {})
    expect([absent.code, absent.stderr]).toEqual([4, expect.stringContaining('chmod 600')])
    writeFileSync(open, 'two words')
    chmodSync(open, 0o600)
    expect((await run(['status', '--socket', shared, '--token-file', open], {})).code).toBe(3)
    expect((await run(['status', '--home', shell.home, '--token-file', tokenFile], {})).code).toBe(2)
  })
})
