import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { fetchRelease } from '../../src/flows/fetch.ts'
import { type PublishDeps, publish } from '../../src/flows/publish.ts'
import { remove } from '../../src/flows/remove.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { newSigner, node, packageOf } from './nodes.ts'

let signer: Signer
beforeAll(async () => {
  signer = await newSigner()
})

const single = () => node(new MemoryNetwork(), signer)
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CatalogError ? error.code : String(error)),
  )

async function visible(alice: ReturnType<typeof single>) {
  const roots: string[] = []
  for await (const { root } of alice.store.roots()) roots.push(root)
  return {
    releases: alice.catalogue.count,
    roots: roots.length,
    heads: alice.catalogue.recordIds().length - alice.catalogue.count,
  }
}

describe('publishing', () => {
  it('stores the content, then the release, then the head that lists it, and announces last', async () => {
    const alice = single()
    const steps: string[] = []
    const told =
      <A extends unknown[], R>(step: string, work: (...args: A) => Promise<R>) =>
      async (...args: A) => {
        const result = await work(...args)
        steps.push(step)
        return result
      }
    const { catalogue, store } = alice
    const deps: PublishDeps = {
      ...alice.publishing,
      store: Object.assign(Object.create(store), {
        lease: store.lease.bind(store),
        createWriter: async (bytes: number) => {
          const writer = await store.createWriter(bytes)
          return { ...writer, commit: told('content', writer.commit) }
        },
      }) as typeof store,
      catalogue: Object.assign(Object.create(catalogue), {
        find: catalogue.find.bind(catalogue),
        head: catalogue.head.bind(catalogue),
        release: catalogue.release.bind(catalogue),
        restore: catalogue.restore.bind(catalogue),
        contradictions: catalogue.contradictions.bind(catalogue),
        divergent: catalogue.divergent.bind(catalogue),
        addRelease: told('release', catalogue.addRelease.bind(catalogue)),
        addHead: told('head', catalogue.addHead.bind(catalogue)),
      }) as typeof catalogue,
      announce: told('announced', async () => undefined),
    }
    await publish(deps, await packageOf('ordered', '1.0.0'))
    expect(steps).toEqual(['content', 'release', 'head', 'announced'])
  })

  it('twice is once; another version joins the head', async () => {
    const alice = single()
    const path = await packageOf('twice', '1.0.0')
    const first = await alice.publish(path)
    const again = await alice.publish(path)
    expect([first.created, again.created, again.release.id]).toEqual([true, false, first.release.id])
    await alice.publish(await packageOf('twice', '1.10.0'))
    await alice.publish(await packageOf('twice', '1.9.0'))
    const [head] = await alice.catalogue.headsOf('twice')
    expect(head?.statement.sequence).toBe(3)
    expect(head?.statement.versions.map(({ version }) => version)).toEqual(['1.0.0', '1.9.0', '1.10.0'])
  })

  it('at the same time, two versions of a name both end up in its head', async () => {
    const alice = single()
    await Promise.all(
      (await Promise.all(['1.0.0', '2.0.0', '3.0.0'].map(version => packageOf('many', version)))).map(
        alice.publish,
      ),
    )
    expect((await alice.catalogue.headsOf('many'))[0]?.statement.versions).toHaveLength(3)
  })

  it('other content under a published version is refused, and leaves nothing behind', async () => {
    const alice = single()
    const path = await packageOf('fixed', '1.0.0')
    await alice.publish(path)
    const before = await visible(alice)
    await writeFile(join(path, 'file'), 'other')
    expect(await codeOf(alice.publish(path))).toBe('version-exists')
    expect(await visible(alice)).toEqual(before)
  })

  it('a version that was removed here comes back as the same release, and never with other content', async () => {
    const alice = single()
    const path = await packageOf('gone', '1.0.0')
    const { release } = await alice.publish(path)
    await remove(alice.removing, release)
    const before = await visible(alice)
    await writeFile(join(path, 'file'), 'other')
    expect(await codeOf(alice.publish(path))).toBe('version-exists')
    expect(await visible(alice)).toEqual(before)
    await rm(path, { recursive: true })
    const again = await alice.publish(await packageOf('gone', '1.0.0'))
    expect([again.release.id, again.created]).toEqual([release.id, false])
    expect(await alice.store.state(release.statement.root)).toBe('complete')
    expect((await alice.publish(await packageOf('gone', '1.0.1'))).created).toBe(true)
  })

  it('cut off after any step, is completed by publishing again, with the same id where one was made', async () => {
    for (const step of ['addRelease', 'addHead', 'announce', 'after addRelease'] as const) {
      const alice = single()
      const path = await packageOf('crashing', '1.0.0')
      const { catalogue } = alice
      const crash = async () => {
        throw new CatalogError('storage-failed', 'cut off')
      }
      const cut = {
        find: catalogue.find.bind(catalogue),
        head: catalogue.head.bind(catalogue),
        release: catalogue.release.bind(catalogue),
        restore: catalogue.restore.bind(catalogue),
        addRelease: step === 'addRelease' ? crash : catalogue.addRelease.bind(catalogue),
        contradictions: catalogue.contradictions.bind(catalogue),
        divergent: catalogue.divergent.bind(catalogue),
        addHead:
          step === 'addHead' || step === 'after addRelease' ? crash : catalogue.addHead.bind(catalogue),
      }
      const deps = {
        ...alice.publishing,
        catalogue: cut,
        ...(step === 'announce' ? { announce: crash } : {}),
      }
      expect(await codeOf(publish(deps, path))).toBe('storage-failed')
      const [made] = catalogue.releasesOf('crashing')
      const { release } = await alice.publish(path)
      if (made !== undefined) expect(release.id).toBe(made.id)
      expect(catalogue.count).toBe(1)
      expect((await catalogue.headsOf('crashing'))[0]?.statement.versions).toEqual([
        { version: '1.0.0', id: release.id },
      ])
      expect(await alice.store.state(release.statement.root)).toBe('complete')
      expect(alice.announced).toEqual([release.id])
    }
  })

  it('what cannot be signed shows nothing: no release, no head', async () => {
    const alice = single()
    const seal: typeof alice.publishing.seal = async statement => {
      if (statement.type === 'head') throw new CatalogError('too-large', 'no')
      return alice.publishing.seal(statement)
    }
    const { publisher } = alice.publishing
    const deps: PublishDeps = { ...alice.publishing, signsFor: () => ({ publisher, seal }) }
    expect(await codeOf(publish(deps, await packageOf('unsigned', '1.0.0')))).toBe('too-large')
    expect(await visible(alice)).toEqual({ releases: 0, roots: 0, heads: 0 })
  })

  it('a private package is refused rather than shown to all', async () => {
    const alice = single()
    for (const privacy of ['private', 'private-network', 'p2p'])
      expect(await codeOf(packageOf('secret', '1.0.0', 'x', { privacy }).then(alice.publish))).toBe(
        'forbidden',
      )
    expect(await visible(alice)).toEqual({ releases: 0, roots: 0, heads: 0 })
  })
})

describe('removing', () => {
  it('frees the bytes, forgets the record, and says what stays announced', async () => {
    const alice = single()
    const { release } = await alice.publish(await packageOf('only', '1.0.0'))
    const kept: unknown[] = []
    const deps = { ...alice.removing, withdraw: async (_: unknown, keep: unknown) => void kept.push(keep) }
    expect(await remove(deps, release)).toEqual({ bytesFreed: release.statement.size, inUse: false })
    expect(kept).toEqual([{ content: false, name: false }])
    expect(await alice.store.state(release.statement.root)).toBeUndefined()
    expect(await alice.catalogue.release(release.id)).toBeUndefined()
  })

  it('keeps a content that another release has too, and the name while another version is held', async () => {
    const alice = single()
    const bob = node(new MemoryNetwork(), await newSigner())
    const path = await packageOf('shared', '1.0.0')
    const mine = await alice.publish(path)
    const theirs = await bob.publish(path)
    await alice.accept(theirs.release.bytes)
    const older = await alice.publish(await packageOf('shared', '0.9.0'))
    const kept: unknown[] = []
    const deps = { ...alice.removing, withdraw: async (_: unknown, keep: unknown) => void kept.push(keep) }
    expect(await remove(deps, mine.release)).toEqual({ bytesFreed: 0, inUse: false })
    expect(await alice.store.state(mine.release.statement.root)).toBe('complete')
    expect(await remove(deps, theirs.release)).toMatchObject({ bytesFreed: theirs.release.statement.size })
    expect(await remove(deps, older.release)).toMatchObject({ bytesFreed: older.release.statement.size })
    expect(kept).toEqual([
      { content: true, name: true },
      { content: false, name: true },
      { content: false, name: false },
    ])
  })

  it('of a content that is here in part frees what is here', async () => {
    const [alice, bob] = [single(), single()]
    const { release } = await alice.publish(await packageOf('half', '1.0.0', 'x'.repeat(3_000_000)))
    const { root } = release.statement
    await bob.accept(release.bytes)
    const open = await bob.store.openPartial(root, (await alice.store.indexBytes(root)) as Uint8Array)
    await open.put(0, (await alice.store.readShard(root, 0)) as Uint8Array)
    await open.close()
    const { bytesFreed } = await remove(bob.removing, release)
    expect(bytesFreed).toBe(open.index.shards[0]?.length)
  })
})

describe('fetching', () => {
  it('asks for nothing that is complete, and refuses a release that contradicts its content', async () => {
    const alice = single()
    const path = await packageOf('checked', '1.0.0')
    const { release } = await alice.publish(path)
    await rm(path, { recursive: true })
    const fetcher = { fetch: async () => Promise.reject(new Error('asked')) }
    const deps = { store: alice.store, fetcher, announce: async () => undefined }
    expect((await fetchRelease(deps, release)).bytesTransferred).toBe(0)
    const lying = { ...release, statement: { ...release.statement, sha256: new Uint8Array(32) } }
    expect(await codeOf(fetchRelease(deps, lying))).toBe('bad-record')
  })
})
