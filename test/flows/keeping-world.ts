// A node's store, catalogue and pins with every flow that brings contents in, uses them or takes them away, and what
// must be there after all of it. Real but for signatures and the network. Dies on command, like a killed process.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ContentIndex, encodeContentIndex } from '../../src/assets/content-index.ts'
import type { ContentStore } from '../../src/assets/content-store.ts'
import { packTree } from '../../src/assets/pack.ts'
import { scanPackage } from '../../src/assets/package-tree.ts'
import {
  encodeEnvelope,
  encodeStatement,
  type ReleaseStatement,
  type Statement,
} from '../../src/assets/release.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { equalBytes } from '../../src/base/cbor.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { blake3 } from '../../src/base/hash.ts'
import type { KeyValue } from '../../src/base/key-value.ts'
import { silentLog } from '../../src/base/log.ts'
import { scoped } from '../../src/base/scoped-key-value.ts'
import { type CollectDeps, collect } from '../../src/flows/collect.ts'
import { type EvictDeps, evict } from '../../src/flows/evict.ts'
import { type FetchDeps, fetchRelease, writeContent } from '../../src/flows/fetch.ts'
import { reasonToKeep } from '../../src/flows/keep.ts'
import { pin, unpin } from '../../src/flows/pin.ts'
import { publish } from '../../src/flows/publish.ts'
import { remove } from '../../src/flows/remove.ts'
import { Catalogue, type ReleaseEnvelope } from '../../src/registry/catalogue.ts'
import { Turns } from '../../src/registry/turns.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import type { FileSystem } from '../../src/store/file-system.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { nodeFileSystem } from '../../src/store/node-file-system.ts'
import { Pins } from '../../src/store/pins.ts'
import { pseudoRandom } from '../store/sample-content.ts'

/** A package on disk, and its content as any other node has it. */
export interface WorldPackage {
  readonly path: string
  readonly index: ContentIndex
  readonly indexBytes: Uint8Array
  readonly root: string
  readonly source: ContentStore
  /** The same content, released by another publisher. */
  readonly foreign: Verified<ReleaseEnvelope>
}

const sealed = <S extends Statement>(statement: S) =>
  encodeEnvelope(statement, encodeStatement(statement), []) as Verified<ReturnType<typeof encodeEnvelope<S>>>

/** `count` packages of a few hundred kilobytes, each a little larger than the one before. */
export async function worldPackages(directory: string, count: number): Promise<WorldPackage[]> {
  const source = new MemoryContentStore()
  const packages: WorldPackage[] = []
  for (let number = 0; number < count; number++) {
    const path = join(directory, `package-${number}`)
    await mkdir(path, { recursive: true })
    const manifest = {
      apiVersion: 'catalog.v1',
      kind: 'AssetPackage',
      metadata: { name: `package-${number}`, version: '1.0.0' },
      spec: { description: 'Of a world' },
    }
    await writeFile(join(path, 'catalog.json'), JSON.stringify(manifest))
    await writeFile(join(path, 'data'), pseudoRandom(number + 1, 250_000 + number * 60_000))
    const tree = await scanPackage(path)
    const writer = await source.createWriter(tree.totalBytes)
    const index = await packTree(tree.entries, writer, {})
    const root = await writer.commit(index)
    const { size, blake3, sha256 } = index
    const statement: ReleaseStatement = {
      ...{
        type: 'release',
        network: 'world',
        publisher: 'other',
        name: `package-${number}`,
        version: '1.0.0',
      },
      ...{ root, size, files: 2, blake3, sha256, manifestPath: 'catalog.json', signedAt: 1 },
    }
    const { bytes: indexBytes } = encodeContentIndex(index)
    packages.push({ path, index, indexBytes, root, source, foreign: sealed(statement) })
  }
  return packages
}

/** What was acknowledged and not taken back: must be here, whole, whatever happens. */
export interface Claims {
  keep(root: string): void
  /** Before the first step that may take it away. */
  drop(root: string): void
}

export interface WorldOptions {
  readonly directory: string
  readonly records: KeyValue
  readonly packages: readonly WorldPackage[]
  readonly claims: Claims
  readonly maxBytes?: number
  /** The control: nobody holds anything, and what must not happen does. */
  readonly unleased?: boolean
  /** Called between steps of a fetch: lets others in. */
  readonly pause?: () => Promise<void>
}

class Dead extends Error {}

/** Directories written so far: each has a name of its own, whichever world wrote it. */
let outs = 0

export class World {
  readonly #options: WorldOptions
  readonly #files: FileContentStore
  readonly store: ContentStore
  readonly catalogue: Catalogue
  readonly #pins: Pins
  readonly #owed = new Set<string>()
  readonly #keeping: CollectDeps & EvictDeps
  readonly #fetching: FetchDeps
  readonly #turns = new Turns()
  readonly #running = new Map<string, Promise<void>>()
  /** Counts of what may take a claim back. */
  readonly #removals = new Map<string, number>()
  /** How many of them run. */
  readonly #removing = new Map<string, number>()
  readonly #wrong: string[] = []
  #dead = false

  constructor(options: WorldOptions) {
    this.#options = options
    const records = this.#mortal(options.records)
    const scope = (name: string) => scoped(records, `${name}/`)
    this.#pins = new Pins({ records: scope('pins') })
    this.catalogue = new Catalogue({ records: scope('catalogue'), log: silentLog }, { ownPublisher: 'self' })
    this.#files = new FileContentStore(
      {
        records: scope('content'),
        log: silentLog,
        fileSystem: this.#mortalFiles(),
        makeRoom: bytes => evict(this.#keeping, bytes),
      },
      {
        directory: join(options.directory, 'store'),
        reserveBytes: 0,
        ...(options.maxBytes === undefined ? {} : { maxBytes: options.maxBytes }),
      },
    )
    const nothing = () => undefined
    const noLease = () => ({ release: nothing, [Symbol.dispose]: nothing })
    this.store =
      options.unleased === true
        ? new Proxy(this.#files, {
            get: (store, name) => {
              const value = Reflect.get(store, name, store) as unknown
              return name === 'lease' ? noLease : typeof value === 'function' ? value.bind(store) : value
            },
          })
        : this.#files
    this.#keeping = {
      store: this.store,
      publisher: 'self',
      catalogue: this.catalogue,
      pins: this.#pins,
      isOwed: root => this.#owed.has(root),
      resultState: () => undefined,
      now: Date.now,
      // The sharpest: a partial content is garbage as soon as nobody has it open, also within a millisecond.
      partialAgeMs: -1000,
      withdrawContent: async () => undefined,
      announceContent: async () => undefined,
      log: silentLog,
    }
    this.#fetching = {
      store: this.store,
      announce: async () => undefined,
      fetcher: {
        fetch: async (root, { signal }) => {
          const found = this.#packageOf(root)
          await this.#transfer(found, signal)
          return { index: found.index, bytesTransferred: 1, providers: [], localBytes: 0 }
        },
      },
    }
  }

  async start(): Promise<void> {
    await mkdir(join(this.#options.directory, 'store'), { recursive: true })
    await this.#files.start()
    await this.#pins.start()
    await this.catalogue.start()
    await collect(this.#keeping)
  }

  async stop(): Promise<void> {
    await this.#files.stop()
  }

  /** From now on nothing that this process does reaches the disk. */
  die(): void {
    this.#dead = true
  }

  /** What broke a promise while it ran. */
  get wrong(): string[] {
    return this.#wrong
  }

  async publish(number: number): Promise<void> {
    const { path, root } = this.#package(number)
    await this.#claiming(root, () =>
      publish(
        {
          network: 'world',
          now: () => 1,
          store: this.store,
          signsFor: () => ({ publisher: 'self', seal: async statement => sealed(statement) }),
          catalogue: this.catalogue,
          recall: async id => this.#recall(id),
          announce: async () => undefined,
          askPeers: async () => undefined,
          exclusively: (name, work) => this.#turns.take(name, work),
        },
        path,
      ),
    )
  }

  async #recall(id: string) {
    const bytes = await this.catalogue.forgottenBytes(id)
    if (bytes === undefined || bytes.byteLength === 0) return undefined
    const { decodeEnvelope } = await import('../../src/assets/release.ts')
    return decodeEnvelope(bytes) as Verified<ReleaseEnvelope>
  }

  fetch(number: number): Promise<void> {
    return this.#undisturbed(number, async ({ foreign }) => {
      await this.catalogue.restore(foreign)
      await fetchRelease(this.#fetching, foreign)
    })
  }

  /** Left in the middle. */
  async fetchPart(number: number): Promise<void> {
    const { foreign } = this.#package(number)
    const leaving = new AbortController()
    await this.catalogue.restore(foreign)
    setImmediate(() => leaving.abort(new Dead('left')))
    await this.#attempt(() => fetchRelease(this.#fetching, foreign, { signal: leaving.signal }))
  }

  pin(number: number): Promise<void> {
    const { foreign, root } = this.#package(number)
    return this.#claiming(root, async () => {
      await this.catalogue.restore(foreign)
      await pin({ ...this.#fetching, pins: this.#pins }, foreign)
    })
  }

  async unpin(number: number): Promise<void> {
    const { foreign, root } = this.#package(number)
    await this.#takingBack(root, () => unpin({ pins: this.#pins }, foreign))
  }

  owe(number: number, owed: boolean): void {
    const { root } = this.#package(number)
    if (owed) this.#owed.add(root)
    else this.#owed.delete(root)
  }

  /** The release of this node, or the other publisher's. */
  async remove(number: number, own: boolean): Promise<void> {
    const { root, foreign } = this.#package(number)
    const mine = this.catalogue.releasesByRoot(root).find(({ publisher }) => publisher === 'self')
    if (own && mine === undefined) return
    await this.#takingBack(root, async () => {
      const release = own ? await this.catalogue.release((mine as { id: string }).id) : foreign
      if (release === undefined) return
      const deps = {
        store: this.store,
        catalogue: this.catalogue,
        pins: this.#pins,
        withdraw: async () => undefined,
      }
      await remove(deps, release)
    })
  }

  /** What is whole when the lease begins can be read to its last byte. */
  async read(number: number): Promise<void> {
    const { root, index } = this.#package(number)
    await this.#attempt(async () => {
      using _lease = this.store.lease(root)
      if ((await this.store.state(root)) !== 'complete') return
      try {
        const parts: Uint8Array[] = []
        for await (const part of this.store.read(root, 0, index.size)) {
          parts.push(part)
          await this.#options.pause?.()
        }
        if (!equalBytes(blake3(Buffer.concat(parts)), index.blake3))
          this.#wrong.push(`wrong bytes of ${root}`)
      } catch (error) {
        if (!this.#dead) this.#wrong.push(`a leased read of ${root} failed: ${String(error)}`)
      }
    })
  }

  /** As an execution does it: fetched where it is not here, then laid out as files. */
  stage(number: number): Promise<void> {
    return this.#undisturbed(number, async ({ foreign, root }) => {
      using _lease = this.store.lease(root)
      await this.catalogue.restore(foreign)
      await fetchRelease(this.#fetching, foreign)
      await this.#options.pause?.()
      await writeContent(this.#fetching, root, join(this.#options.directory, `out-${process.pid}-${outs++}`))
    })
  }

  async gc(): Promise<void> {
    await this.#attempt(() => collect(this.#keeping))
  }

  async evict(bytes: number): Promise<void> {
    await this.#attempt(() => evict(this.#keeping, bytes))
  }

  isKept(root: string): boolean {
    return reasonToKeep(this.#keeping, root) !== undefined
  }

  /** What a claim promises, of one root: undefined when it is so. */
  async brokenPromise(root: string): Promise<string | undefined> {
    if (this.catalogue.releasesByRoot(root).length === 0) return `no release of ${root}`
    const state = await this.store.state(root)
    if (state !== 'complete') return `${root} is ${state ?? 'gone'}`
    return (await this.store.check(root)).length > 0 ? `${root} is damaged` : undefined
  }

  #package(number: number): WorldPackage {
    return this.#options.packages[number % this.#options.packages.length] as WorldPackage
  }

  #packageOf(root: string): WorldPackage {
    return this.#options.packages.find(each => each.root === root) as WorldPackage
  }

  /** One transfer of a root at a time; who comes later waits for the first, as with the real one. */
  async #transfer(content: WorldPackage, signal: AbortSignal | undefined): Promise<void> {
    const { root } = content
    const running = this.#running.get(root)
    if (running !== undefined) {
      await running.catch(() => undefined)
      if ((await this.store.state(root)) === 'complete') return
      return this.#transfer(content, signal)
    }
    const work = this.#transferNow(content, signal).finally(() => this.#running.delete(root))
    this.#running.set(root, work)
    await work
  }

  async #transferNow({ root, indexBytes, source }: WorldPackage, signal: AbortSignal | undefined) {
    const partial = await this.store.openPartial(root, indexBytes)
    try {
      await partial.copyLocal()
      for (const shard of partial.missing()) {
        signal?.throwIfAborted()
        await partial.put(shard, (await source.readShard(root, shard)) as Uint8Array)
        await this.#options.pause?.()
      }
      await partial.complete()
    } finally {
      await partial.close()
    }
  }

  async #takingBack(root: string, work: () => Promise<unknown>): Promise<void> {
    this.#removals.set(root, (this.#removals.get(root) ?? 0) + 1)
    this.#removing.set(root, (this.#removing.get(root) ?? 0) + 1)
    this.#options.claims.drop(root)
    await this.#attempt(work)
    this.#removing.set(root, (this.#removing.get(root) ?? 0) - 1)
  }

  /** Claims the root once the work is done, unless something took it away meanwhile. */
  async #claiming(root: string, work: () => Promise<unknown>): Promise<void> {
    const isContested = this.#contest(root)
    const done = await this.#attempt(work)
    if (!done || isContested()) return
    this.#options.claims.keep(root)
    const state = await this.store.state(root)
    if (state !== 'complete' && !isContested() && !this.#dead)
      this.#wrong.push(`${root} is ${state ?? 'gone'} as soon as it was acknowledged`)
  }

  /** Tells whether anything has been taking the root away since now: what is done meanwhile may come before it. */
  #contest(root: string): () => boolean {
    const before = this.#removals.get(root)
    const running = (this.#removing.get(root) ?? 0) > 0
    return () => running || this.#removals.get(root) !== before
  }

  /** Fails only where the user took the content away meanwhile. */
  async #undisturbed(number: number, work: (content: WorldPackage) => Promise<unknown>): Promise<void> {
    const content = this.#package(number)
    const isContested = this.#contest(content.root)
    try {
      await work(content)
    } catch (error) {
      const excused = this.#dead || isContested() || isCatalogError(error, 'quota-exceeded')
      if (!excused) this.#wrong.push(`work with ${content.root} failed: ${String(error)}`)
    }
  }

  async #attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work()
      return !this.#dead
    } catch (error) {
      const expected =
        this.#dead ||
        error instanceof Dead ||
        (isCatalogError(error) &&
          ['quota-exceeded', 'not-found', 'version-exists', 'busy'].includes(error.code))
      if (!expected) this.#wrong.push(String((error as Error).stack))
      return false
    }
  }

  #alive<T>(work: () => Promise<T>): Promise<T> {
    return this.#dead ? Promise.reject(new Dead('killed')) : work()
  }

  #mortal(records: KeyValue): KeyValue {
    return {
      get: key => this.#alive(() => records.get(key)),
      put: (key, value) => this.#alive(() => records.put(key, value)),
      delete: key => this.#alive(() => records.delete(key)),
      batch: writes => this.#alive(() => records.batch(writes)),
      entries: range => records.entries(range),
      keys: range => records.keys(range),
    }
  }

  #mortalFiles(): FileSystem {
    return {
      ...nodeFileSystem,
      mkdir: (path, options) => this.#alive(() => nodeFileSystem.mkdir(path, options)),
      rename: (from, to) => this.#alive(() => nodeFileSystem.rename(from, to)),
      unlink: path => this.#alive(() => nodeFileSystem.unlink(path)),
      open: async (path, flags, mode) => {
        const file = await this.#alive(() => nodeFileSystem.open(path, flags, mode))
        return {
          read: (...at) => file.read(...at),
          write: (...at) => this.#alive(() => file.write(...at)),
          datasync: () => this.#alive(() => file.datasync()),
          sync: () => this.#alive(() => file.sync()),
          stat: () => file.stat(),
          close: () => file.close(),
        }
      },
    }
  }
}
