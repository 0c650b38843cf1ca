// Pins, and removing what is pinned or in use.
import { afterAll, describe, expect, it } from 'vitest'
import type { Verified } from '../../src/assets/stage.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { type CollectDeps, collect } from '../../src/flows/collect.ts'
import { pin, unpin } from '../../src/flows/pin.ts'
import { remove } from '../../src/flows/remove.ts'
import type { Release } from '../../src/flows/resolve.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { Pins } from '../../src/store/pins.ts'
import { newSigner, node, packageOf } from './nodes.ts'

const signers = [await newSigner(), await newSigner()] as const
afterAll(() => Promise.all(signers.map(signer => signer.stop())))

/** Alice has published; bob knows the release, and can have its content. */
async function world() {
  const network = new MemoryNetwork()
  const [alice, bob] = [node(network, signers[0]), node(network, signers[1])]
  const { release } = await alice.publish(await packageOf('wanted', '1.0.0', 'x'.repeat(500_000)))
  await bob.accept(release.bytes)
  const { root } = release.statement
  const fetcher = {
    fetch: async () => {
      const partial = await bob.store.openPartial(root, (await alice.store.indexBytes(root)) as Uint8Array)
      for (const shard of partial.missing())
        await partial.put(shard, (await alice.store.readShard(root, shard)) as Uint8Array)
      await partial.complete()
      return { index: partial.index, bytesTransferred: 500_000, providers: [], localBytes: 0 }
    },
  }
  const records = new MemoryKeyValue()
  const pins = new Pins({ records })
  const deps = { store: bob.store, fetcher, announce: async () => undefined, pins }
  const withdrawn: string[] = []
  const collecting: CollectDeps = {
    store: bob.store,
    publisher: signers[1].fingerprint,
    catalogue: bob.catalogue,
    pins,
    isOwed: () => false,
    resultState: () => undefined,
    now: Date.now,
    partialAgeMs: 1000,
    withdrawContent: async gone => void withdrawn.push(gone),
  }
  const removing = { ...bob.removing, pins }
  return {
    bob,
    release: release as Verified<Release>,
    root,
    records,
    pins,
    deps,
    collecting,
    removing,
    withdrawn,
  }
}

describe('a pin', () => {
  it('brings the content here first, and outlives a restart', async () => {
    const { bob, release, root, records, pins, deps } = await world()
    expect(await pin(deps, release)).toBe(500_000)
    expect(await bob.store.state(root)).toBe('complete')
    expect(await pin(deps, release)).toBe(0)
    const again = new Pins({ records })
    await again.start()
    expect([pins.has(release.id), again.has(release.id)]).toEqual([true, true])
    expect([await unpin(deps, release), await unpin(deps, release)]).toEqual([true, false])
    await again.start()
    expect(again.has(release.id)).toBe(false)
  })

  it('that cannot bring the content here is none', async () => {
    const { release, pins, deps } = await world()
    const fetcher = { fetch: async () => Promise.reject(new Error('nobody has it')) }
    await expect(pin({ ...deps, fetcher }, release)).rejects.toThrow('nobody has it')
    expect(pins.has(release.id)).toBe(false)
  })

  it('ends with the release that is removed', async () => {
    const { bob, release, root, pins, deps, removing } = await world()
    await pin(deps, release)
    const { size } = release.statement
    expect(await remove(removing, release)).toEqual({ bytesFreed: size, inUse: false })
    expect(pins.has(release.id)).toBe(false)
    expect(await bob.store.state(root)).toBeUndefined()
  })
})

describe('a release that is removed while its content is in use', () => {
  it('is forgotten at once; its bytes go with the next collection after the use', async () => {
    const { bob, release, root, deps, collecting, removing, withdrawn } = await world()
    await pin(deps, release)
    const lease = bob.store.lease(root)
    expect(await remove(removing, release)).toEqual({ bytesFreed: 0, inUse: true })
    expect(await bob.catalogue.release(release.id)).toBeUndefined()
    expect((await collect(collecting)).bytes).toBe(0)
    expect(await bob.store.check(root)).toEqual([])
    lease.release()
    expect(await collect(collecting, { dryRun: true })).toMatchObject({ unreferenced: { contents: 1 } })
    expect(await bob.store.state(root)).toBe('complete')
    expect((await collect(collecting)).unreferenced).toEqual({
      contents: 1,
      bytes: release.statement.size,
    })
    expect(await bob.store.state(root)).toBeUndefined()
    expect(withdrawn).toEqual([root])
  })
})

describe('the outputs of an execution', () => {
  it('are kept as long as they count, and collected afterwards', async () => {
    const { bob, release, root, deps, collecting, removing } = await world()
    await pin(deps, release)
    // Held over the removal: afterwards no release names it, as nothing but an execution names its outputs.
    const lease = bob.store.lease(root)
    await remove(removing, release)
    lease.release()
    expect((await collect({ ...collecting, resultState: () => 'kept' })).bytes).toBe(0)
    expect((await collect({ ...collecting, resultState: () => 'expired' })).results.contents).toBe(1)
    expect(await bob.store.state(root)).toBeUndefined()
  })
})
