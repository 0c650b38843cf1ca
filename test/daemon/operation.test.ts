import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { PublishResult, Status } from '../../src/control/api.ts'
import { catalog, Laboratory, listTree, until } from './harness.ts'

const laboratory = new Laboratory()
const run = promisify(execFile)

describe('a daemon', () => {
  it('starts once per home, stops within 5 s of SIGTERM with work under way, and starts again', async () => {
    const node = await laboratory.started('once')
    const second = await catalog(['daemon', '--home', node.home, '--json'])
    expect([second.code, JSON.parse(second.stderr.trim().split('\n').at(-1) as string).error.code]).toEqual([
      6,
      'already-running',
    ])
    const search = node.client.show('nobody-has-it').catch(error => error)
    const { code, milliseconds } = await node.end('SIGTERM')
    expect(code).toBe(0)
    expect(milliseconds).toBeLessThan(5_000)
    expect(await search).toBeInstanceOf(Error)
    await node.start()
    expect(await node.json<Status>('status')).toMatchObject({
      peerId: node.peerId,
      network: 'catalog',
      peers: 0,
      announcements: { failing: 0 },
    })
  })

  it('keeps its home and keys to itself', async () => {
    const node = await laboratory.started('private')
    const mode = async (path: string) => ((await stat(join(node.home, path))).mode & 0o777).toString(8)
    expect(
      await Promise.all(
        ['', 'control.sock', 'keys', 'keys/node.key', 'keys/publisher.key', 'config.yaml'].map(mode),
      ),
    ).toEqual(['700', '600', '700', '600', '600', '600'])
    await node.end('SIGTERM')
    await chmod(join(node.home, 'keys/publisher.key'), 0o644)
    const refused = await catalog(['daemon', '--home', node.home, '--json'])
    expect([refused.code, JSON.parse(refused.stderr.trim().split('\n').at(-1) as string).error.code]).toEqual(
      [9, 'forbidden'],
    )
  })

  it('answers curl on its socket', async () => {
    const node = await laboratory.started('curl')
    const path = await laboratory.package('curled', '1.0.0', { 'data.txt': '0123456789' })
    const { id } = await node.json<PublishResult>('publish', path)
    const curl = async (...args: string[]) =>
      (await run('curl', ['-s', '--unix-socket', join(node.home, 'control.sock'), ...args])).stdout
    expect(JSON.parse(await curl('http://catalog/v1/status'))).toMatchObject({ peerId: node.peerId })
    expect(await curl('-H', 'Range: bytes=2-5', `http://catalog/v1/releases/${id}/files/data.txt`)).toBe(
      '2345',
    )
    expect(
      await curl(
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '-H',
        'Range: bytes=99-',
        `http://catalog/v1/releases/${id}/files/data.txt`,
      ),
    ).toBe('416')
    expect(JSON.parse(await curl('http://catalog/v1/openapi.json')).openapi).toMatch(/^3\./)
    const lines = (
      await curl(
        '-X',
        'POST',
        '-H',
        'content-type: application/json',
        '-d',
        JSON.stringify({ path }),
        'http://catalog/v1/publish',
      )
    )
      .trim()
      .split('\n')
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({ result: { id, created: false } })
  })

  it('accepts the three example manifests as they stand, and finds them by what they say', async () => {
    const node = await laboratory.started('examples')
    for (const name of ['computational-asset', 'distributed-asset', 'gpu-asset'])
      expect(
        await node.json('publish', join(import.meta.dirname, '../vectors/examples', `${name}.yaml`)),
      ).toMatchObject({ files: 1, created: true })
    const names = async (...args: string[]) =>
      (await node.json<{ results: { name: string }[] }>('search', ...args)).results.map(({ name }) => name)
    expect(await names('gpu')).toEqual(['gpu-computation'])
    expect(await names('acceleration')).toEqual(['gpu-computation'])
    expect((await names('hypermesh')).sort()).toEqual([
      'distributed-processing',
      'gpu-computation',
      'mathematical-computation',
    ])
    expect(await names('distributed procesing')).toContain('distributed-processing')
    expect(await names('zebra')).toEqual([])
  })
})

describe('bad input', () => {
  it('gets an error with a code of its own, an exit code from the table, and a next step', async () => {
    const node = await laboratory.started('bad-input')
    const bad = await laboratory.path('bad')
    await mkdir(join(bad, 'none'), { recursive: true })
    await mkdir(join(bad, 'two'))
    for (const name of ['catalog.yaml', 'catalog.json']) await writeFile(join(bad, 'two', name), '{}')
    await writeFile(join(bad, 'syntax.yaml'), 'apiVersion: "catalog.v1"\n  kind: [')
    await writeFile(
      join(bad, 'bomb.yaml'),
      `a: &a [${'x,'.repeat(9)}x]\n${Array.from({ length: 9 }, (_, i) => `${String.fromCharCode(98 + i)}: &${String.fromCharCode(98 + i)} [${`*${String.fromCharCode(97 + i)},`.repeat(9)}*${String.fromCharCode(97 + i)}]`).join('\n')}\n`,
    )
    await writeFile(join(bad, 'huge.yaml'), Buffer.alloc(100 * 1024 * 1024, '#'))
    await writeFile(
      join(bad, 'missing.yaml'),
      'apiVersion: catalog.v1\nkind: AssetPackage\nmetadata: { name: x }\nspec: {}\n',
    )
    const longHome = join(bad, 'x'.repeat(120))
    const cases: [string[], number, string][] = [
      [['publish', join(bad, 'syntax.yaml')], 3, 'invalid-manifest'],
      [['publish', join(bad, 'bomb.yaml')], 3, 'invalid-manifest'],
      [['publish', join(bad, 'missing.yaml')], 3, 'invalid-manifest'],
      [['publish', join(bad, 'huge.yaml')], 8, 'too-large'],
      [['publish', join(bad, 'none')], 3, 'invalid-package'],
      [['publish', join(bad, 'two')], 3, 'invalid-package'],
      [['publish', join(bad, 'nowhere')], 4, 'no-such-path'],
      [['fetch', 'Not A Name'], 2, 'invalid-ref'],
      [['fetch', 'x@not-a-range'], 2, 'invalid-ref'],
      [['fetch', 'unknown-package'], 4, 'not-found'],
      [['show', 'unknown-package'], 4, 'not-found'],
      [['remove', 'unknown-package'], 4, 'not-found'],
      [['logs', 'no-such-id'], 4, 'no-such-execution'],
    ]
    for (const [args, exit, code] of cases) {
      const {
        code: ended,
        stdout,
        stderr,
      } = await catalog([...args, '--home', node.home, '--json'], { cwd: bad })
      const { error } = JSON.parse(stderr) as { error: { code: string; message: string } }
      expect([args[0], args[1], ended, error.code, stdout]).toEqual([args[0], args[1], exit, code, ''])
      expect(error.message.length).toBeGreaterThan(30)
    }
    expect((await node.client.releases(false)).length).toBe(0)
    expect((await node.client.status()).releases.held).toBe(0)
    await node.end('SIGTERM')
    const noDaemon = await catalog(['status', '--home', node.home, '--json'])
    expect([noDaemon.code, JSON.parse(noDaemon.stderr).error.code]).toEqual([5, 'daemon-not-running'])
    expect(JSON.parse(noDaemon.stderr).error.message).toMatch(/catalog daemon/)
    const tooLong = await catalog(['init', '--home', longHome, '--json'])
    expect([tooLong.code, JSON.parse(tooLong.stderr).error.code]).toEqual([3, 'socket-path-too-long'])
    const never = await catalog(['daemon', '--home', join(bad, 'fresh'), '--json'])
    expect([never.code, JSON.parse(never.stderr).error.code]).toEqual([4, 'not-initialised'])
  })

  it('a home of another user is refused', async ({ skip }) => {
    if (process.getuid?.() !== 0) skip('needs root to make a home of another user')
    const node = await laboratory.node('theirs')
    await run('chown', ['1234', node.home])
    const refused = await catalog(['daemon', '--home', node.home, '--json'])
    expect([refused.code, JSON.parse(refused.stderr).error.code]).toEqual([9, 'home-not-owned'])
    await run('chown', ['0', node.home])
  })

  it('a full disk: a typed error, nothing half-published, and everything works once there is room', async ({
    skip,
  }) => {
    if (process.getuid?.() !== 0) skip('needs root to mount a small disk')
    const disk = await laboratory.path('disk')
    await mkdir(disk)
    // The daemon's home is on a disk of 48 MiB, mounted in a private namespace of a shell that becomes the test's driver.
    const script = join(import.meta.dirname, 'full-disk.sh')
    const { stdout } = await run(
      'unshare',
      ['-m', '--propagation', 'private', 'bash', script, process.execPath, disk],
      { timeout: 60_000 },
    )
    expect(stdout.trim().split('\n')).toEqual([
      'published small',
      'refused big: no-space exit 8',
      'listed 1',
      'published after',
      'listed 2',
      'read back',
    ])
  })
})

describe('room', () => {
  it('is checked before a fetch starts, and what does not fit leaves nothing behind', async () => {
    const alice = await laboratory.started('roomy')
    const bob = await laboratory.node('tight')
    await bob.start(['--bootstrap', alice.address], { ...process.env, CATALOG_STORAGE_MAX_BYTES: '2000000' })
    const path = await laboratory.package('too-big-for-bob', '1.0.0', { 'data.bin': randomBytes(3_000_000) })
    await alice.json('publish', path)
    await until('bob knows it', async () => (await bob.client.releases(false)).length === 1)
    const { code, stderr } = await bob.run(
      'fetch',
      'too-big-for-bob',
      '--json',
      '--out',
      await laboratory.path('never'),
    )
    expect([code, JSON.parse(stderr).error.code]).toEqual([8, 'quota-exceeded'])
    expect((await bob.client.status()).releases).toMatchObject({ held: 0, bytes: 0 })
    const fits = await laboratory.package('fits', '1.0.0', { 'data.bin': randomBytes(1_000_000) })
    await alice.json('publish', fits)
    await until('bob knows it', async () => (await bob.client.releases(false)).length === 2)
    expect((await bob.fetch('fits')).bytesTransferred).toBeGreaterThan(1_000_000)
  })
})

describe('the round trip of a directory', () => {
  it('respects .catalogignore and keeps hidden files', async () => {
    const node = await laboratory.started('ignoring')
    const path = await laboratory.package('ignoring', '1.0.0', {
      '.catalogignore': '*.log\nbuild/\n!keep.log\n',
      'a.log': 'x',
      'keep.log': 'x',
      'build/out': 'x',
      '.env': 'x',
      'src/a.ts': 'x',
    })
    await node.json('publish', path)
    const out = await laboratory.path('ignoring-out')
    await node.json('fetch', 'ignoring', '--out', out)
    expect(
      (await listTree(out)).filter(line => line.startsWith('file')).map(line => line.split(' ')[2]),
    ).toEqual(['.catalogignore', '.env', 'catalog.json', 'keep.log', 'src/a.ts'])
  })
})
