// What stays on a node, between real daemons: quota and eviction, pins, garbage after a kill, damage and its repair.
import { randomBytes } from 'node:crypto'
import { open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { CheckResult, CollectResult, PublishResult, ReleaseView, Status } from '../../src/control/api.ts'
import { Laboratory, listTree, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()

const published = async (node: TestNode, name: string, bytes: number) => {
  const path = await laboratory.package(name, '1.0.0', { 'data.bin': randomBytes(bytes) })
  return { path, ...(await node.json<PublishResult>('publish', path)) }
}

const knows = (node: TestNode, ...ids: readonly string[]) =>
  until(`${node.home} knows the releases`, async () => {
    const known = new Set((await node.client.releases(false)).map(({ id }) => id))
    return ids.every(id => known.has(id))
  })

const storage = (settings: Readonly<Record<string, number>>): NodeJS.ProcessEnv => ({
  ...process.env,
  ...Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [`CATALOG_STORAGE_${key}`, String(value)]),
  ),
})

const startedWith = async (name: string, other: TestNode, settings: Readonly<Record<string, number>>) => {
  const node = await laboratory.node(name)
  await node.start(['--bootstrap', other.address], storage(settings))
  return node
}

/** What the payload files of a node take: their lengths, and what the disk allocated for them. */
async function payloadBytes({ home }: TestNode): Promise<{ lengths: number; allocated: number }> {
  let lengths = 0
  let allocated = 0
  for (const part of ['content', 'staging'])
    for (const path of await payloadPaths(home, part)) {
      const found = await stat(path).catch(() => undefined)
      lengths += found?.size ?? 0
      allocated += (found?.blocks ?? 0) * 512
    }
  return { lengths, allocated }
}

async function payloadPaths(home: string, part = 'content'): Promise<string[]> {
  const stores = (await readdir(home, { recursive: true, withFileTypes: true })).filter(entry =>
    entry.isFile(),
  )
  return stores.map(entry => join(entry.parentPath, entry.name)).filter(path => path.includes(`/${part}/`))
}

const heldBy = async (node: TestNode): Promise<string[]> =>
  (await node.client.releases(true)).map(({ name }) => name).sort()

describe('a quota', () => {
  it('is never exceeded while four fetches run side by side', async () => {
    const alice = await laboratory.started('alice-quota')
    const packages = await Promise.all([0, 1, 2, 3].map(i => published(alice, `quota-${i}`, 12_000_000)))
    const maxBytes = 30_000_000
    const bob = await startedWith('bob-quota', alice, { MAX_BYTES: maxBytes })
    await knows(bob, ...packages.map(({ id }) => id))
    const highest = { lengths: 0, allocated: 0 }
    let fetching = true
    const sampling = (async () => {
      while (fetching) {
        const { lengths, allocated } = await payloadBytes(bob)
        highest.lengths = Math.max(highest.lengths, lengths)
        highest.allocated = Math.max(highest.allocated, allocated)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
    })()
    const results = await Promise.allSettled(packages.map(({ name }) => bob.fetch(name)))
    fetching = false
    await sampling
    expect(highest.lengths).toBeLessThanOrEqual(maxBytes)
    expect(highest.allocated).toBeLessThanOrEqual(maxBytes)
    expect(highest.lengths).toBeGreaterThan(maxBytes / 2)
    const codes = results.flatMap(result =>
      result.status === 'rejected' ? [(result.reason as { code?: string }).code] : [],
    )
    // Two fit. What came later was refused, or pushed out what had ended by then.
    expect(codes.every(code => code === 'quota-exceeded')).toBe(true)
    expect(codes.length).toBeLessThanOrEqual(2)
    expect((await heldBy(bob)).length).toBe(2)
    for (const { name, path } of packages) {
      const out = await laboratory.path(`out-${name}`)
      await bob.fetch(name, out)
      expect(await listTree(out)).toEqual(await listTree(path))
    }
    expect((await payloadBytes(bob)).lengths).toBeLessThanOrEqual(maxBytes)
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })

  it('pushes out what was not used for longest, and never what is pinned', async () => {
    const alice = await laboratory.started('alice-pin')
    const [first, second, third] = await Promise.all(
      ['first', 'second', 'third'].map(name => published(alice, name, 4_000_000)),
    ).then(all => all as [Awaited<ReturnType<typeof published>>, ...typeof all])
    const ids = [first, second, third].map(each => (each as { id: string }).id)
    const bob = await startedWith('bob-pin', alice, { MAX_BYTES: 9_000_000 })
    await knows(bob, ...ids)
    expect(await bob.json('pin', 'first')).toMatchObject({ name: 'first', pinned: true })
    await bob.fetch('second')
    await bob.fetch('third')
    expect(await heldBy(bob)).toEqual(['first', 'third'])
    // The release is still known, and nobody is sent here for its bytes.
    await until('alice is told', async () =>
      (await alice.client.show('second')).providers.every(({ peer }) => peer !== bob.peerId),
    )
    const { releases } = await bob.json<{ releases: ReleaseView[] }>('list')
    expect(releases.filter(({ pinned }) => pinned).map(({ name }) => name)).toEqual(['first'])
    expect(await bob.json<{ releases: ReleaseView[] }>('pin', '--list')).toEqual({
      releases: releases.filter(({ pinned }) => pinned),
    })
    const { storage: before } = await bob.json<Status>('status')
    expect(before).toMatchObject({
      quotaBytes: 9_000_000,
      pinnedBytes: first.size,
      evictableBytes: (third as { size: number }).size,
      publishedBytes: 0,
    })
    // A pin outlives the daemon.
    await bob.end('SIGKILL')
    await bob.start(['--bootstrap', alice.address], storage({ MAX_BYTES: 9_000_000 }))
    await until('they meet again', async () => (await bob.client.peers()).length > 0, 20_000)
    await bob.json('pin', 'third')
    const refused = await bob.run('fetch', 'second', '--no-out', '--json')
    expect(refused.code).toBe(8)
    expect(JSON.parse(refused.stderr).error).toMatchObject({
      code: 'quota-exceeded',
      keptBytes: { pinned: before.pinnedBytes + before.evictableBytes },
    })
    await bob.json('pin', '--remove', 'first')
    await bob.fetch('second')
    expect(await heldBy(bob)).toEqual(['second', 'third'])
    expect((await bob.run('pin', '--remove', 'first')).code).toBe(4)
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})

describe('garbage', () => {
  it('of a fetch that was killed goes once nobody goes on with it; what is published stays', async () => {
    // Slow enough that a middle can be met.
    const alice = await laboratory.node('alice-gc')
    await alice.start([], { ...process.env, CATALOG_BANDWIDTH_UP: '32MiB' })
    const { id, size } = await published(alice, 'left-behind', 48_000_000)
    const bob = await startedWith('bob-gc', alice, {})
    const own = await published(bob, 'own', 300_000)
    await knows(bob, id)
    let done = 0
    const fetching = bob.client
      .fetch(
        { refs: ['left-behind'] },
        {
          onProgress: progress => {
            done = Math.max(done, progress.done ?? 0)
          },
        },
      )
      .catch(() => undefined)
    await until('a part has come', async () => done > size / 5, 20_000)
    await bob.end('SIGKILL')
    await fetching
    await bob.start(['--bootstrap', alice.address], storage({ KEEP_PARTIALS_SECONDS: 1 }))
    await new Promise(resolve => setTimeout(resolve, 1100))
    const planned = await bob.json<CollectResult>('gc', '--dry-run')
    expect(planned).toMatchObject({ dryRun: true, partial: { contents: 1 }, unreferenced: { contents: 0 } })
    expect(planned.partial.bytes).toBeGreaterThan(size / 5)
    const freed = await bob.json<CollectResult>('gc')
    expect(freed).toEqual({ ...planned, dryRun: false })
    expect(await heldBy(bob)).toEqual(['own'])
    expect((await payloadBytes(bob)).lengths).toBe(own.size)
    expect((await bob.run('gc')).stdout).toBe('There is no garbage.\n')
    expect((await bob.fetch('left-behind')).bytesTransferred).toBeGreaterThan(size)
    expect((await bob.json<CheckResult>('check')).damaged).toEqual([])
    await Promise.all([alice.end('SIGKILL'), bob.end('SIGKILL')])
  })
})

describe('damage', () => {
  it('is found, never served, and repaired from another node; without one it is said', async () => {
    const alice = await laboratory.started('alice-damage')
    const bob = await laboratory.started('bob-damage', [alice])
    const packages = []
    for (let i = 0; i < 3; i++) packages.push(await published(alice, `damaged-${i}`, 3_000_000))
    await knows(bob, ...packages.map(({ id }) => id))
    for (const { name } of packages) await bob.fetch(name)
    expect((await bob.run('check')).stdout).toMatch(/^Checked 3 contents, .* all of it is whole/)
    const fileOf = async (root: string) =>
      (await payloadPaths(bob.home)).find(path => path.endsWith(root)) as string
    const damages: ((path: string) => Promise<unknown>)[] = [
      path => flipAt(path, 700_000),
      path => truncate(path, 1_500_000),
      path => rm(path),
      async path => {
        await flipAt(path, 10)
        await flipAt(path, 2_900_000)
      },
    ]
    for (const [turn, damage] of damages.entries()) {
      const { name, root, path: original } = packages[turn % packages.length] as (typeof packages)[0]
      await damage(await fileOf(root))
      const found = await bob.run('check', '--json')
      expect(found.code).toBe(7)
      const { damaged } = JSON.parse(found.stdout) as CheckResult
      expect(damaged).toMatchObject([{ root, releases: [{ name }], repaired: false }])
      await expectOnlyGoodBytes(bob, name, join(original, 'data.bin'))
      const repaired = await bob.json<CheckResult>('check', name, '--repair')
      expect(repaired.damaged).toMatchObject([{ root, shards: damaged[0]?.shards, repaired: true }])
      // Only what was damaged came over the wire.
      const all = damaged[0]?.shards.length === 0 || turn === 2
      if (!all) expect(repaired.damaged[0]?.bytesTransferred).toBeLessThan(2_900_000)
      expect((await bob.json<CheckResult>('check')).damaged).toEqual([])
      const out = await laboratory.path(`whole-${turn}`)
      await bob.fetch(name, out)
      expect(await listTree(out)).toEqual(await listTree(original))
    }
    await alice.end('SIGKILL')
    const { name, root } = packages[0] as (typeof packages)[0]
    await bob.json('pin', name)
    await flipAt(await fileOf(root), 700_000)
    const alone = await bob.run('check', '--repair', '--json')
    expect(alone.code).toBe(7)
    expect(JSON.parse(alone.stdout).damaged).toMatchObject([
      { root, repaired: false, error: { code: 'no-providers' } },
    ])
    // It is not forgotten: the good shards stay, and the next check says it again.
    expect((await bob.run('check', name)).stdout).toMatch(/1 is damaged/)
    await bob.end('SIGKILL')
  }, 120_000)

  async function flipAt(path: string, at: number): Promise<void> {
    const file = await open(path, 'r+')
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    await file.write(Buffer.of((byte[0] as number) ^ 1), 0, 1, at)
    await file.close()
  }

  /** What comes before the connection breaks off is right to the byte. */
  async function expectOnlyGoodBytes(node: TestNode, name: string, original: string): Promise<void> {
    const file = await open(original)
    let at = 0
    try {
      for await (const chunk of node.client.file(name, 'data.bin')) {
        const expected = Buffer.alloc(chunk.byteLength)
        await file.read(expected, 0, expected.length, at)
        expect(Buffer.from(chunk).equals(expected)).toBe(true)
        at += chunk.byteLength
      }
    } catch {
      // Broken off at the damage.
    } finally {
      await file.close()
    }
  }
})
