// Making room: what goes, in which order, what stays and why, and what the network is told.
import { describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { type EvictDeps, evict } from '../../src/flows/evict.ts'
import { holdings } from '../../src/flows/keep.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { publish, type Sample, sample } from '../store/sample-content.ts'

async function world(count: number) {
  const store = new MemoryContentStore()
  const contents = Array.from({ length: count }, (_, number) => sample(number + 1, 100_000))
  for (const content of contents) await publish(store, content)
  const told: string[] = []
  const named = (root: string) => contents.findIndex(content => content.root === root)
  const kept = { published: new Set<string>(), pinned: new Set<string>(), owed: new Set<string>() }
  const deps: EvictDeps = {
    store,
    publisher: 'self',
    catalogue: {
      releasesByRoot: root => [
        { id: `id of ${root}`, publisher: kept.published.has(root) ? 'self' : 'other' },
      ],
    },
    pins: { has: id => kept.pinned.has(id.slice('id of '.length)) },
    isOwed: root => kept.owed.has(root),
    resultState: () => undefined,
    withdrawContent: async root => void told.push(`withdraw ${named(root)}`),
    announceContent: async root => void told.push(`announce ${named(root)}`),
    log: silentLog,
  }
  const here = async () => {
    const numbers: number[] = []
    for await (const { root } of store.roots()) numbers.push(named(root))
    return numbers
  }
  return { store, deps, told, kept, here, root: (number: number) => (contents[number] as Sample).root }
}

describe('making room', () => {
  it('takes the least recently used first, just enough, and tells the network before', async () => {
    const { store, deps, told, here, root } = await world(4)
    await store.readShard(root(0), 0)
    store.lease(root(0)).release()
    expect(await evict(deps, 150_000)).toEqual({ keptBytes: {} })
    expect(told).toEqual(['withdraw 1', 'withdraw 2'])
    expect(await here()).toEqual([0, 3])
  })

  it('leaves what is published here, pinned, owed or in use, and says how much that is', async () => {
    const { store, deps, kept, told, here, root } = await world(6)
    kept.published.add(root(0))
    kept.pinned.add(root(1))
    kept.owed.add(root(2))
    using _lease = store.lease(root(3))
    expect(await holdings(deps)).toMatchObject({
      ...{ published: 100_000, pinned: 100_000, owed: 100_000, inUse: 100_000, evictable: 200_000 },
      used: 600_000,
    })
    const keptBytes = {
      'published here': 100_000,
      pinned: 100_000,
      'kept for others': 100_000,
      'in use': 100_000,
    }
    // Not enough may go: then nothing goes in vain.
    expect(await evict(deps, 200_001)).toEqual({ keptBytes })
    expect(told).toEqual([])
    expect(await evict(deps, 200_000)).toEqual({ keptBytes })
    expect(await here()).toEqual([0, 1, 2, 3])
  })

  it('takes the next where one is leased or pinned at the last moment, and announces that one again', async () => {
    const { store, deps, kept, told, here, root } = await world(4)
    const withdrawContent = async (gone: string) => {
      await deps.withdrawContent(gone)
      if (gone === root(0)) store.lease(root(0))
      if (gone === root(1)) kept.pinned.add(root(1))
    }
    await evict({ ...deps, withdrawContent }, 100_000)
    expect(told).toEqual(['withdraw 0', 'announce 0', 'withdraw 1', 'announce 1', 'withdraw 2'])
    expect(await here()).toEqual([0, 1, 3])
  })
})
