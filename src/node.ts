// The composition root: the only file that constructs services and wires them to one another. Reads as the list
// of what a node is made of; what each part does is in its folder.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { manifestLimits } from './assets/manifest.ts'
import { packTree } from './assets/pack.ts'
import { scanFiles } from './assets/package-tree.ts'
import { decodeEnvelope } from './assets/release.ts'
import { writeTree } from './assets/write-tree.ts'
import { CatalogError } from './base/errors.ts'
import { type CallOptions, inOrder, type Service } from './base/lifecycle.ts'
import type { Log } from './base/log.ts'
import { scoped } from './base/scoped-key-value.ts'
import type { Config } from './config/config.ts'
import type { HomePaths } from './config/home.ts'
import type { NodeApi } from './control/api.ts'
import { ContentFetcher } from './distribution/content-fetcher.ts'
import { PeerScores } from './distribution/peer-scores.ts'
import { findProviders, holdersOf } from './distribution/providers.ts'
import { defaultSyncOptions, Sync } from './distribution/sync.ts'
import { TransferServer } from './distribution/transfer-server.ts'
import { DelegationServer } from './execution/delegation-server.ts'
import { Delegations } from './execution/delegations.ts'
import { defaultExecutorOptions, type ExecutionSpec, Executor } from './execution/executor.ts'
import { PythonRuntime } from './execution/python-runtime.ts'
import { defaultSandboxOptions, Sandbox } from './execution/sandbox.ts'
import { StagingArea, stagingRoot } from './execution/staging.ts'
import { WasmRuntime } from './execution/wasm-runtime.ts'
import { createExecutionApi } from './execution-api.ts'
import { accept, isRelease, prove } from './flows/accept.ts'
import { announce, ensureAnnounced, withdraw } from './flows/announce.ts'
import { collect } from './flows/collect.ts'
import { recordUnder, selectRecord, validateRecord } from './flows/dht-records.ts'
import { acceptDelegated, answerOffer, type ExecuteDeps } from './flows/execute.ts'
import { type FetchDeps, fetchRelease, writeContent } from './flows/fetch.ts'
import type { PublishDeps } from './flows/publish.ts'
import { renewHeads } from './flows/renew.ts'
import { type Release, type ResolveDeps, resolve } from './flows/resolve.ts'
import { keyPaths } from './init.ts'
import { Announcer } from './network/announcer.ts'
import { loadOrCreateNodeKey } from './network/identity.ts'
import { KadRouter } from './network/kad-router.ts'
import { KnownPeers } from './network/known-peers.ts'
import { Libp2pHost } from './network/libp2p-host.ts'
import { createNodeApi } from './node-api.ts'
import { Catalogue } from './registry/catalogue.ts'
import { Search } from './registry/search.ts'
import { Turns } from './registry/turns.ts'
import { FileContentStore } from './store/file-content-store.ts'
import { LevelKeyValue } from './store/level-key-value.ts'
import { sealStatement } from './trust/envelope.ts'
import { loadPublisherKeys } from './trust/keys.ts'
import { Signer } from './trust/signer.ts'
import { Verifier } from './trust/verifier.ts'

export const catalogVersion = '0.1.0'

/** How often this publisher's heads are looked at; they are renewed at half of their 30 days. */
const renewEveryMs = 12 * 3600 * 1000

export interface CatalogNode extends Required<Service> {
  readonly api: NodeApi
  readonly peer: string
  addresses(): string[]
}

/** Builds a node from its home. Opens the database and the keys; listens only from `start()` on. */
export async function createNode(paths: HomePaths, config: Config, log: Log): Promise<CatalogNode> {
  const keys = keyPaths(paths)
  const [nodeKey, publisherKeys] = await Promise.all([
    loadOrCreateNodeKey(keys.node),
    loadPublisherKeys(keys.publisher),
  ])
  await mkdir(paths.store, { recursive: true, mode: 0o700 })
  const records = new LevelKeyValue({ directory: join(paths.store, 'records') })
  const scope = (name: string) => scoped(records, `${name}/`)

  const signer = new Signer({ keys: publisherKeys })
  const verifier = new Verifier()
  const store = new FileContentStore({ records: scope('content'), log }, storeOptions(paths, config))
  const catalogue = new Catalogue(
    { records: scope('catalogue'), log },
    { ownPublisher: publisherKeys.fingerprint },
  )
  const search = new Search({ source: catalogue, log })

  const host = new Libp2pHost(
    { privateKey: nodeKey, datastoreDirectory: join(paths.store, 'network'), log },
    {
      listen: config.listen,
      network: config.network,
      mdns: config.mdns,
      maxConnections: config.limits.maxConnections,
    },
  )
  const proving = { network: config.network, now: Date.now, verifier }
  const router = new KadRouter({
    host,
    log,
    validate: (key, value) => validateRecord({ proving, catalogue }, key, value),
    select: selectRecord,
    publisherOf: (_key, value) => decodeEnvelope(value).statement.publisher,
  })
  const knownPeers = new KnownPeers({ host, records: scope('peers'), log }, { bootstrap: config.bootstrap })
  const announcer = new Announcer({
    router,
    records: scope('announcements'),
    recordBytes: key => recordUnder({ catalogue }, key),
    log,
  })

  const scores = new PeerScores({ records: scope('scores') })
  new TransferServer({ host, store, log })
  const providers = { host, router, log }
  const fetcher = new ContentFetcher({
    host,
    store,
    scores,
    log,
    findProviders: (root, options) => findProviders(providers, root, options),
  })
  const sync = new Sync(
    { host, catalogue, log, accept: bytes => accept({ ...proving, catalogue }, bytes) },
    { ...defaultSyncOptions, enabled: config.sync.enabled, intervalMs: config.sync.intervalSeconds * 1000 },
  )

  const peers = () => [...new Set(host.connections().map(({ peer }) => peer))]
  const resolving: ResolveDeps = {
    catalogue,
    router,
    peers,
    ask: (peer, question, options) => sync.ask(peer, question, options),
    accept: bytes => accept({ ...proving, catalogue }, bytes),
    pins: config.publishers.pins,
    log,
  }
  const announceRelease = (release: Release) => announce({ announcer }, release)
  const fetching: FetchDeps = { store, fetcher, announce: announceRelease }
  const turns = new Turns()
  const publishing: PublishDeps = {
    network: config.network,
    publisher: signer.fingerprint,
    now: Date.now,
    store,
    seal: statement => sealStatement(statement, signer),
    catalogue,
    recall: id => recallRelease(id),
    announce: announceRelease,
    exclusively: (name, work) => turns.take(name, work),
  }

  const staging = new StagingArea(stagingRoot(paths.home))
  const sandbox = new Sandbox(
    { staging, log },
    { ...defaultSandboxOptions, home: paths.home, requireStrong: config.execution.requireStrongSandbox },
  )
  const executor = new Executor(
    {
      records: scope('executions'),
      runtimes: [new PythonRuntime({ sandbox }), new WasmRuntime({ sandbox })],
      stage: (spec, options) => stagePackage(spec, options),
      keepOutputs: directory => keepOutputs(directory),
      log,
    },
    executorOptions(config),
  )
  const delegations = new Delegations({ host, records: scope('delegations'), log })
  const executing: ExecuteDeps = {
    self: host.peer,
    local: config.execution.local,
    offer: config.execution.offer,
    limits: {
      processes: config.execution.ceiling.processes,
      outputBytes: config.execution.ceiling.outputMb * 1024 * 1024,
    },
    executor,
    delegations,
    peers,
    resolve: (ref, options) => resolve(resolving, ref, options),
    readFile: (release, path, options) => readReleaseFile(release, path, options),
  }
  new DelegationServer({
    host,
    executor,
    offer: question => answerOffer(executing, question),
    submit: (submission, requester, options) => acceptDelegated(executing, submission, requester, options),
    offers: config.execution.offer,
    log,
  })

  async function recallRelease(id: string) {
    const bytes = await catalogue.forgottenBytes(id)
    const envelope = bytes === undefined ? undefined : await prove(proving, bytes)
    return envelope !== undefined && isRelease(envelope) ? envelope : undefined
  }

  async function stagePackage(spec: ExecutionSpec, options: CallOptions) {
    const release = await resolve(resolving, spec.release, options)
    const { index } = await fetchRelease(fetching, release, options)
    const directory = await staging.create('package', spec.id)
    const { root } = release.statement
    try {
      await writeTree(index, (offset, length) => store.read(root, offset, length, options), directory.path, {
        ...options,
        marker: root,
      })
    } catch (error) {
      await directory.dispose()
      throw error
    }
    return { directory: directory.path, dispose: directory.dispose }
  }

  async function keepOutputs(directory: string): Promise<{ root: string }> {
    const entries = await scanFiles(directory)
    const writer = await store.createWriter(0)
    try {
      return { root: await writer.commit(await packTree(entries, writer, {})) }
    } finally {
      await writer.abort()
    }
  }

  /** A small file, such as a manifest, in memory. */
  async function readReleaseFile(release: Release, path: string, options: CallOptions): Promise<Uint8Array> {
    const { index } = await fetchRelease(fetching, release, options)
    const entry = index.entries.find(each => each.path === path)
    if (entry?.kind !== 'file')
      throw new CatalogError('no-such-file', `${release.statement.name} has no file ${JSON.stringify(path)}.`)
    if (entry.size > manifestLimits.maxBytes)
      throw new CatalogError(
        'too-large',
        `${path} of ${release.statement.name} is ${entry.size} bytes: no manifest is.`,
      )
    const chunks: Uint8Array[] = []
    for await (const chunk of store.read(release.statement.root, entry.offset, entry.size, options))
      chunks.push(chunk)
    return Buffer.concat(chunks)
  }

  const executions = createExecutionApi({
    self: host.peer,
    executor,
    delegations,
    flow: executing,
    sandbox: () => sandbox.state,
    fetchResult: async (root, peer, options) => {
      if ((await store.state(root)) !== 'complete')
        await fetcher.fetch(root, { signal: options.signal, hints: [peer] })
      const index = await store.index(root)
      return {
        files: index?.entries.filter(({ kind }) => kind !== 'directory').length ?? 0,
        bytes: index?.size ?? 0,
      }
    },
    writeResult: (root, out, { signal, force }) => writeContent({ store }, root, out, { signal, force }),
    offersExecution: peer => delegations.askWhetherOffers(peer),
  })
  const api = createNodeApi({
    version: catalogVersion,
    home: paths.home,
    network: config.network,
    publisher: signer.fingerprint,
    host,
    store,
    catalogue,
    search,
    flows: {
      publish: publishing,
      fetch: fetching,
      resolve: resolving,
      remove: { store, catalogue, withdraw: (release, keep) => withdraw({ announcer }, release, keep) },
    },
    announcements: () => announcer.state(),
    holders: (root, options) => holdersOf(providers, root, options),
    executions,
  })

  /** What a crash left half-done is taken away before anybody can see it. */
  const tidy: Service = {
    async start() {
      const results = new Set([...executor.list(), ...delegations.list()].map(({ resultRoot }) => resultRoot))
      const removed = await collect({
        store,
        isReferenced: root => results.has(root) || catalogue.releasesByRoot(root).length > 0,
      })
      if (removed > 0) log.info({ removed }, 'contents that nothing refers to were removed')
    },
  }
  /** What is held is announced, whatever a crash has cut short; in the background. */
  const catchingUp: Service = {
    async start() {
      const ensureAll = async () => {
        for await (const { root, complete } of store.roots())
          for (const { id } of complete ? catalogue.releasesByRoot(root) : []) {
            const release = await catalogue.release(id)
            if (release !== undefined) await ensureAnnounced({ announcer }, release)
          }
      }
      ensureAll().catch((error: unknown) =>
        log.warn({ error: String(error) }, 'not all that is held could be announced'),
      )
    },
  }
  let renewal: NodeJS.Timeout | undefined
  const renewing: Service = {
    async start() {
      const renew = () =>
        renewHeads({
          ...publishing,
          catalogue,
          announceHead: (publisher, name) =>
            announcer.add({ kind: 'record', key: { kind: 'head', publisher, name } }),
        }).then(
          renewed => renewed > 0 && log.info({ renewed }, 'heads were signed anew'),
          (error: unknown) => log.error({ error: String(error) }, 'heads could not be signed anew'),
        )
      void renew()
      renewal = setInterval(renew, renewEveryMs).unref()
    },
    async stop() {
      clearInterval(renewal)
    },
  }
  const events: Service = {
    async start() {
      catalogue.onRecord(({ id }) => sync.announce(id))
      host.onPeer((_peer, change) => {
        if (change === 'connected') announcer.wake()
      })
    },
  }

  const services: readonly Service[] = [
    // Stopped last: what is under way when the node stops may still have to be signed or proved.
    { stop: () => signer.stop() },
    { stop: () => verifier.stop() },
    records,
    store,
    catalogue,
    search,
    scores,
    sandbox,
    executor,
    { start: () => delegations.load() },
    // Before anybody can reach this node: what is stored from now on is never taken for a leftover.
    tidy,
    events,
    host,
    router,
    knownPeers,
    announcer,
    catchingUp,
    sync,
    delegations,
    renewing,
  ]
  return { api, peer: host.peer, addresses: () => host.addresses(), ...inOrder(services, log) }
}

function storeOptions({ content }: HomePaths, { storage }: Config) {
  const { maxBytes, reserveBytes } = storage
  return { directory: content, reserveBytes, ...(maxBytes === undefined ? {} : { maxBytes }) }
}

function executorOptions({ execution }: Config) {
  const defaults = defaultExecutorOptions()
  const { cpuCores, memoryMb, storageMb, runSeconds, processes, outputMb } = execution.ceiling
  return {
    ...defaults,
    ceiling: {
      ...defaults.ceiling,
      ...Object.fromEntries(
        Object.entries({ cpuCores, memoryMb, storageMb }).filter(([, value]) => value !== undefined),
      ),
      runSeconds,
      processes,
      outputBytes: outputMb * 1024 * 1024,
    },
    queueLength: execution.maxQueued,
  }
}
