// Fetches that are disturbed near their end or in the middle: the only provider begins to do harm at 99 %, and the
// disk fills up.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { Namespace, namespacesMissing } from '../../bench/namespace.ts'
import { ControlClient } from '../../src/control/client.ts'
import { Laboratory, listTree, until, type Wrap } from './harness.ts'

const laboratory = new Laboratory()
const opened: { end(): void }[] = []
afterAll(() => {
  for (const each of opened) each.end()
})
const missing = await namespacesMissing()
if (missing !== undefined) console.log(`SKIP the full disk: ${missing}`)

describe.concurrent('the only provider, when 99 % have come,', () => {
  it.each([
    ['stalls-late', 'stalls'],
    ['crawls-late', 'sends one byte a second'],
    ['stalls-bulk-late', 'stalls on a data connection'],
    ['crawls-bulk-late', 'sends one byte a second on a data connection'],
  ])('%s (%s): is left; the fetch goes on with another, and asks only for the rest', async behaviour => {
    const alice = await laboratory.started(`alice-${behaviour}`)
    const path = await laboratory.package(behaviour, '1.0.0', { 'data.bin': randomBytes(40_000_000) })
    const { id, root, size } = await alice.client.publish({ path })
    const bob = await laboratory.started(`bob-${behaviour}`, [alice])
    await until('bob knows it', async () =>
      (await bob.client.releases(false)).some(release => release.id === id),
    )
    const program = fileURLToPath(new URL('./hostile-provider.ts', import.meta.url))
    const { home } = await laboratory.node(`liar-${behaviour}`)
    const liar = spawn(process.execPath, [program, behaviour, root, alice.address, bob.address, home], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    opened.push({ end: () => liar.kill('SIGKILL') })
    const ended = new Promise<never>((_, reject) =>
      liar.once('exit', code => reject(new Error(`the hostile provider ended with ${code}`))),
    )
    ended.catch(() => undefined)
    const lines = createInterface({ input: liar.stdout })[Symbol.asyncIterator]()
    const peer: string = (await Promise.race([lines.next(), ended])).value ?? ''
    await until('bob is connected to the liar', async () =>
      (await bob.client.peers()).some(each => each.peer === peer),
    )
    await alice.end('SIGTERM')
    const out = await laboratory.path(`out-${behaviour}`)
    const fetching = bob.client.fetch({ refs: [id], out })
    fetching.catch(() => undefined)
    await Promise.race([lines.next(), ended])
    await alice.start(['--bootstrap', bob.address])
    const [result] = await fetching
    if (result === undefined || 'error' in result) throw new Error(JSON.stringify(result))
    expect(await listTree(out)).toEqual(await listTree(path))
    const from = (who: string) => result.providers.find(each => each.peer === who)?.bytes ?? 0
    expect(from(peer)).toBeGreaterThan(0.97 * size)
    expect(from(alice.peerId)).toBeGreaterThan(0)
    expect(result.bytesTransferred).toBeLessThan(1.1 * size)
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})

describe.skipIf(missing !== undefined)('a disk that fills up in the middle of a fetch', () => {
  it('ends it with no-space; the daemon lives, and completes it from where it was once there is room', async () => {
    const [near, far] = [await Namespace.open(), await Namespace.open()]
    opened.push({ end: () => near.close() }, { end: () => far.close() })
    // Slow enough that a middle can be met.
    const { to } = await Namespace.link(near, far, 1, 50)
    const alice = await laboratory.node('alice-full')
    await alice.start(['--listen', `/ip4/${to}/udp/0/quic-v1`], process.env, (command, args) =>
      far.command(command, args),
    )
    const path = await laboratory.package('large', '1.0.0', { 'data.bin': randomBytes(30_000_000) })
    const { id, size } = await alice.client.publish({ path })
    const bob = await laboratory.node('bob-full')
    await bob.start(
      ['--listen', '/ip4/0.0.0.0/udp/0/quic-v1', '--bootstrap', alice.address],
      { ...process.env, CATALOG_STORAGE_RESERVE_BYTES: String(4 * 1024 * 1024) },
      (command, args) => near.command(...onSmallDisk(bob.home)(command, args)),
    )
    // His home is on a disk that only he sees.
    const home = join('/proc', String(bob.pid), 'root', bob.home)
    const client = new ControlClient({ socketPath: join(home, 'control.sock') })
    await until('bob knows it', async () => (await client.releases(false)).some(release => release.id === id))

    let done = 0
    const fetching = client.fetch(
      { refs: [id] },
      {
        onProgress: progress => {
          if (progress.phase === 'transfer') done = Math.max(done, progress.done ?? 0)
        },
      },
    )
    const refused = fetching.catch(error => error.code)
    await until('a third has come', async () => done > size / 3, 20_000)
    const filler = join(home, 'filler')
    const { bavail, bsize } = await statfs(home)
    await writeFile(filler, Buffer.alloc(bavail * bsize)).catch(() => undefined)
    expect(await refused).toBe('no-space')
    expect((await client.status()).releases.known).toBe(1)

    await rm(filler)
    const out = await laboratory.path('out-full')
    const [result] = await client.fetch({ refs: [id], out })
    expect(result).toMatchObject({ id })
    expect(await listTree(out)).toEqual(await listTree(path))
    expect((result as { bytesTransferred: number }).bytesTransferred).toBeLessThan(0.9 * size)
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})

/** A tmpfs of 64 MiB over a home, in a mount namespace of its own, with what the home held. */
function onSmallDisk(home: string): Wrap {
  const script =
    'cp -a "$0" "$0.before" && mount -t tmpfs -o size=64m,mode=0700 tmpfs "$0" && cp -a "$0.before/." "$0" && exec "$@"'
  return (command, args) => [
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-c', script, home, command, ...args],
  ]
}
