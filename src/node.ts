// The composition root: the only file that constructs services and wires them to one another. Reads as the list
// of what a node is made of; what each part does is in its folder.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeContentIndex } from './assets/content-index.ts'
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
import { AccessTokens } from './control/tokens.ts'
import { ContentFetcher } from './distribution/content-fetcher.ts'
import { PeerScores } from './distribution/peer-scores.ts'
import { findProviders, holdersOf } from './distribution/providers.ts'
import { Replication } from './distribution/replication.ts'
import { defaultSyncOptions, Sync } from './distribution/sync.ts'
import { transferProtocol } from './distribution/transfer-protocol.ts'
import { TransferServer } from './distribution/transfer-server.ts'
import { DelegationServer } from './execution/delegation-server.ts'
import { Delegations } from './execution/delegations.ts'
import { type ExecutionSpec, Executor } from './execution/executor.ts'
import { PythonRuntime } from './execution/python-runtime.ts'
import { Results } from './execution/results.ts'
import { defaultSandboxOptions, Sandbox } from './execution/sandbox.ts'
import { StagingArea, stagingRoot } from './execution/staging.ts'
import { WasmRuntime } from './execution/wasm-runtime.ts'
import { createExecutionApi } from './execution-api.ts'
import { type AcceptDeps, accept, isRelease, prove } from './flows/accept.ts'
import { announce, announceContent, ensureAnnounced, withdraw, withdrawContent } from './flows/announce.ts'
import type { CollectDeps } from './flows/collect.ts'
import { recordUnder, selectRecord, validateRecord } from './flows/dht-records.ts'
import { type EvictDeps, evict } from './flows/evict.ts'
import { acceptDelegated, answerOffer, type ExecuteDeps } from './flows/execute.ts'
import { fetchRelease, writeContent } from './flows/fetch.ts'
import type { KeepDeps } from './flows/keep.ts'
import { askPeers } from './flows/next-head.ts'
import type { PublishDeps } from './flows/publish.ts'
import type { ReadDeps } from './flows/read.ts'
import { mendCopy, proveOffered, pullCopy, type ReplicateDeps } from './flows/replicate.ts'
import { type Release, type ResolveDeps, resolution, resolve } from './flows/resolve.ts'
import type { StandingOf } from './flows/standing.ts'
import type { YankDeps } from './flows/yank.ts'
import { HeadSigning } from './head-signing.ts'
import type { HomeKeys } from './home-keys.ts'
import { TrustNews } from './membership/trust-news.ts'
import { authorityOf, createMembership } from './membership-parts.ts'
import { Announcer } from './network/announcer.ts'
import { DnsNames } from './network/dns.ts'
import type { Host } from './network/host.ts'
import { KadRouter } from './network/kad-router.ts'
import { KnownPeers } from './network/known-peers.ts'
import { Libp2pHost } from './network/libp2p-host.ts'
import { LimitedHost, limitsAnything } from './network/limited-host.ts'
import { RecentRefusals } from './network/recent-refusals.ts'
import { type HomeCertificates, NetworkTrust } from './network-trust.ts'
import { NextPublisherKeys } from './next-publisher-keys.ts'
import { createNodeApi, readLeased } from './node-api.ts'
import {
  bandwidthStatus,
  executorOptions,
  membershipStatus,
  replicationOptions,
  storeOptions,
} from './node-options.ts'
import { OwnCatalogue } from './own-catalogue.ts'
import { Catalogue } from './registry/catalogue.ts'
import { Search } from './registry/search.ts'
import { Turns } from './registry/turns.ts'
import { createReplicationApi } from './replication-api.ts'
import { createRootsApi } from './roots-api.ts'
import { ContentCache } from './store/cached-content-store.ts'
import { FileContentStore } from './store/file-content-store.ts'
import { LevelKeyValue } from './store/level-key-value.ts'
import { Pins } from './store/pins.ts'
import type { Authority } from './trust/authority.ts'
import { PublisherIdentities } from './trust/publisher-identities.ts'
import { Signer } from './trust/signer.ts'
import { noticeOf } from './trust/trust-chain.ts'
import { Verifier } from './trust/verifier.ts'
import { createTrustApi } from './trust-api.ts'
import { createCollector, Doubts, HeadKeeper } from './upkeep.ts'

export const catalogVersion = '0.1.0'

export interface CatalogNode extends Required<Service> {
  readonly api: NodeApi
  /** What admits other users of this machine to the shared control socket. */
  readonly tokens: AccessTokens
  readonly peer: string
  addresses(): string[]
}

/** Builds a node from its home, its keys and its certificates. Opens the database; listens only from `start()` on. */
export async function createNode(
  paths: HomePaths,
  config: Config,
  log: Log,
  keys: HomeKeys,
  certificates: HomeCertificates,
): Promise<CatalogNode> {
  await mkdir(paths.store, { recursive: true, mode: 0o700 })
  const records = new LevelKeyValue({ directory: join(paths.store, 'records') })
  const scope = (name: string) => scoped(records, `${name}/`)

  const signer = new Signer({ keys: keys.publisherKeys })
  const identities = new PublisherIdentities(
    { signer, refusalOf: chain => trust.chain.refusalOf(chain) },
    { own: certificates.publisher, delegations: certificates.delegations },
  )
  const verifier = new Verifier({ proveStatement: envelope => trust.chain.proveStatement(envelope) })
  const pins = new Pins({ records: scope('pins') })
  const tokens = new AccessTokens({ records: scope('tokens'), now: Date.now })
  const files = new FileContentStore(
    { records: scope('content'), log, makeRoom: bytes => evict(collecting, bytes) },
    storeOptions(paths, config),
  )
  const contentCache = new ContentCache({ store: files }, { maxBytes: config.caches.contentsBytes })
  const { store } = contentCache
  const catalogue = new Catalogue(
    { records: scope('catalogue'), log },
    { ownPublisher: identities.publisher, cacheBytes: config.caches.recordsBytes },
  )
  const ownCatalogue = new OwnCatalogue({ catalogue, records: scope('own-heads') })
  const search = new Search({ source: catalogue, log })
  const trust = new NetworkTrust(
    {
      keys,
      identities,
      certificates,
      notices: catalogue,
      check: check => verifier.check(check),
      now: Date.now,
      log,
    },
    { paths: paths.trust, root: config.trust.root },
  )

  const libp2p = new Libp2pHost(
    {
      privateKey: keys.nodeKey,
      datastoreDirectory: join(paths.store, 'network'),
      admissions: trust,
      log,
    },
    {
      listen: config.listen,
      network: config.network,
      mdns: config.mdns,
      dataConnections: config.dataConnections,
      maxConnections: config.limits.maxConnections,
    },
  )
  const limited = limitsAnything(config.bandwidth)
    ? new LimitedHost({ host: libp2p }, { ...config.bandwidth, bulkProtocols: [transferProtocol] })
    : undefined
  const host: Host = limited ?? libp2p
  const authoritySigner = keys.authority === undefined ? undefined : new Signer({ keys: keys.authority })
  const membership = createMembership({
    ...{ host, trust, scope, log },
    nodeKeys: { ed25519: keys.node.ed25519.publicKey, falcon: keys.node.falcon.publicKey },
    nextKeys: new NextPublisherKeys({ secret: keys.secret }, { paths }),
    signHeads: before => signing.signAnew(before),
    authority: authorityOf(authoritySigner, certificates),
    check: check => verifier.check(check),
    present: () => libp2p.present(),
    now: Date.now,
  })
  const standing: StandingOf = envelope => trust.chain.standing(envelope)
  const proving = { network: config.network, now: Date.now, verifier, standing }
  const acceptNotice = (bytes: Uint8Array) => trust.chain.accept(bytes)
  const accepting: AcceptDeps = {
    ...proving,
    catalogue,
    acceptNotice,
    // Another machine of a publisher that this node signs for may not have heard of the head that is known here.
    onRefusedHead: ({ statement: { publisher, name } }) => void headKeeper.heal(publisher, name),
  }
  const takeNotice = async (key: string, bytes: Uint8Array) => {
    if (noticeOf(bytes).key !== key)
      throw new CatalogError('bad-record', 'The record does not belong under its key.')
    return acceptNotice(bytes)
  }
  const router = new KadRouter({
    host: libp2p,
    log,
    validate: (key, value) => validateRecord({ proving, catalogue, takeNotice }, key, value),
    select: (key, values) => selectRecord(key, values, bytes => noticeOf(bytes).sequence),
    publisherOf: (key, value) =>
      key.kind === 'notice' ? key.notice : decodeEnvelope(value).statement.publisher,
  })
  const names = new DnsNames({ log }, { servers: config.dns.servers })
  const refusals = new RecentRefusals({ host: libp2p, now: Date.now })
  const knownPeers = new KnownPeers(
    { host: libp2p, records: scope('peers'), names, log },
    { bootstrap: [...config.bootstrap, ...config.trust.pinnedPeers] },
  )
  const announcer = new Announcer({
    router,
    records: scope('announcements'),
    recordBytes: key => recordUnder({ catalogue }, key),
    log,
  })

  const trustNews = new TrustNews({
    ...{ trust: trust.chain, router, announcer, peers: () => peers(), now: Date.now, log },
    authority: membership.authority?.certificate.fingerprint,
  })

  const scores = new PeerScores({ records: scope('scores') })
  new TransferServer({ host, store, log })
  const providers = { host, router, log, rank: (peers: readonly string[]) => scores.rank(peers) }
  const fetcher = new ContentFetcher({
    host,
    store,
    scores,
    log,
    findProviders: (root, options) => findProviders(providers, root, options),
  })
  const sync = new Sync(
    { host, catalogue, log, accept: bytes => accept(accepting, bytes) },
    { ...defaultSyncOptions, enabled: config.sync.enabled, intervalMs: config.sync.intervalSeconds * 1000 },
  )

  const peers = () => [...new Set(host.connections().map(({ peer }) => peer))]
  const pinnedPeers = config.trust.pinnedPeers.flatMap(address => /\/p2p\/(\w+)$/.exec(address)?.[1] ?? [])
  const resolving: ResolveDeps = {
    catalogue,
    router,
    peers,
    ask: (peer, question, options) => sync.ask(peer, question, options),
    accept: bytes => accept(accepting, bytes),
    now: Date.now,
    standing,
    isHere: async root => (await store.state(root)) === 'complete',
    pinnedPeers: () => pinnedPeers.filter(peer => host.isConnected(peer)),
    pins: config.publishers.pins,
    log,
  }
  const announceRelease = (release: Release) => announce({ announcer }, release)
  const fetching: ReadDeps = { store, fetcher, announce: announceRelease }
  const replicating: ReplicateDeps = { ...fetching, catalogue, ask: resolving.ask }
  const replication = new Replication(
    {
      host,
      store,
      records: scope('replication'),
      bring: (offer, from, options) => proveOffered(replicating, offer, from, options),
      pull: (kept, options) => pullCopy(replicating, kept, options),
      mend: (kept, options) => mendCopy(replicating, kept, options),
      knownPeers: () => knownPeers.list().map(({ peer }) => peer),
      log,
    },
    replicationOptions(config),
  )
  const turns = new Turns()
  const heads = {
    network: config.network,
    now: Date.now,
    askPeers: (name: string, options: CallOptions) =>
      askPeers({ peers, ask: resolving.ask, log }, name, options),
    exclusively: <T>(name: string, work: () => Promise<T>) => turns.take(name, work),
  }
  const announceHead = (publisher: string, name: string) =>
    announcer.add({ kind: 'record', key: { kind: 'head', publisher, name } })
  const signing = new HeadSigning({ identities, heads, catalogue: ownCatalogue, announceHead, log })
  const publishing: PublishDeps = {
    ...heads,
    store,
    catalogue: ownCatalogue,
    recall: id => recallRelease(id),
    announce: announceRelease,
    signsFor: name => signing.for(name, ['publish']),
  }
  const yanking = (name: string): YankDeps => ({
    ...heads,
    catalogue: ownCatalogue,
    announceHead,
    ...signing.for(name, ['publish', 'yank']),
  })
  const headKeeper = new HeadKeeper({
    renewAll: () => signing.renewAll(),
    healing: (publisher, name) => signing.healing(publisher, name),
    log,
  })

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
      keepOutputs: (directory, id) => keepOutputs(directory, id),
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
    resolve: (ref, options) => resolution(resolving, ref, options),
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

  const results = new Results(
    { records: () => [...executor.list(), ...delegations.list()], now: Date.now },
    { keepMs: config.storage.keepResultsSeconds * 1000 },
  )
  const keeping: KeepDeps = {
    publisher: identities.publisher,
    catalogue,
    pins,
    isOwed: root => replication.isOwed(root),
    resultState: root => results.state(root),
  }
  const collecting: CollectDeps & EvictDeps = {
    ...keeping,
    store,
    log,
    now: Date.now,
    partialAgeMs: config.storage.keepPartialsSeconds * 1000,
    withdrawContent: root => withdrawContent({ announcer }, root),
    announceContent: root => announceContent({ announcer }, root),
  }

  async function recallRelease(id: string) {
    const bytes = await catalogue.forgottenBytes(id)
    const envelope = bytes === undefined ? undefined : await prove(proving, decodeEnvelope(bytes))
    return envelope !== undefined && isRelease(envelope) ? envelope : undefined
  }

  async function stagePackage(spec: ExecutionSpec, options: CallOptions) {
    // Whether it may be taken was decided when it was submitted; since then it may have been revoked.
    const release = await resolve(resolving, spec.release, {
      ...options,
      allowStale: true,
      asKnown: true,
    })
    using _lease = store.lease(release.statement.root)
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

  async function keepOutputs(directory: string, id: string): Promise<{ root: string }> {
    const entries = await scanFiles(directory)
    const writer = await store.createWriter(0)
    try {
      const index = await packTree(entries, writer, {})
      results.begin(id, encodeContentIndex(index).root)
      return { root: await writer.commit(index) }
    } finally {
      await writer.abort()
    }
  }

  /** A small file, such as a manifest, in memory. */
  async function readReleaseFile(release: Release, path: string, options: CallOptions): Promise<Uint8Array> {
    using _lease = store.lease(release.statement.root)
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
    lease: root => store.lease(root),
    fetchResult: async (root, peer, options) => {
      if ((await store.state(root)) !== 'complete') {
        if (peer === host.peer) throw expiredResult(root, config.storage.keepResultsSeconds)
        await fetcher.fetch(root, { signal: options.signal, hints: [peer] })
      }
      const index = await store.index(root)
      return {
        files: index?.entries.filter(({ kind }) => kind !== 'directory').length ?? 0,
        bytes: index?.size ?? 0,
      }
    },
    writeResult: (root, out, { signal, force }) => writeContent({ store }, root, out, { signal, force }),
    openResult: async (root, options) => {
      const index = await store.index(root)
      if (index === undefined) throw expiredResult(root, config.storage.keepResultsSeconds)
      return { root, index, read: (offset, length) => readLeased(store, root, offset, length, options) }
    },
    offersExecution: peer => delegations.askWhetherOffers(peer),
  })
  const api = createNodeApi({
    version: catalogVersion,
    home: paths.home,
    network: config.network,
    publisher: identities.publisher,
    host,
    store,
    catalogue,
    search,
    pins,
    flows: {
      publish: publishing,
      fetch: fetching,
      resolve: resolving,
      yank: yanking,
      remove: { store, catalogue, pins, withdraw: (release, keep) => withdraw({ announcer }, release, keep) },
      collect: collecting,
      pin: { ...fetching, pins },
      check: { ...keeping, store, fetcher },
    },
    announcements: () => announcer.state(),
    caches: () => ({
      records: catalogue.cacheCounts(),
      indexes: files.cacheCounts(),
      contents: contentCache.counts(),
    }),
    bandwidth: () => bandwidthStatus(config, limited),
    networkNames: () => names.names(),
    membership: () => membershipStatus(trust),
    refusals: () => refusals.list(),
    holders: (root, options) => holdersOf(providers, root, options),
    executions,
    roots: createRootsApi(trust.chain),
    trust: createTrustApi({
      ...{ trust, config, peer: host.peer },
      authority:
        membership.authority === undefined ||
        authoritySigner === undefined ||
        certificates.authority === undefined
          ? undefined
          : {
              chain: certificates.authority,
              signer: authoritySigner,
              issued: () => (membership.authority as Authority).issued(),
            },
      admissionOf: peer => libp2p.admissionOf(peer),
    }),
    certificates: membership.api,
    replication: createReplicationApi({
      replication,
      store,
      resolve: (ref, options) => resolve(resolving, ref, { ...options, purpose: 'look' }),
      releaseOf: root => catalogue.release(catalogue.releasesByRoot(root)[0]?.id ?? ''),
    }),
  })

  const tidy = createCollector({ collecting, log }, { everyMs: config.storage.collectSeconds * 1000 })
  /** What is held is announced, whatever a crash has cut short; in the background. */
  const catchingUp: Service = {
    async start() {
      const ensureAll = async () => {
        for await (const { root, complete } of store.roots())
          for (const { id } of complete ? catalogue.releasesByRoot(root) : []) {
            const release = await catalogue.release(id)
            if (release === undefined) continue
            await ensureAnnounced({ announcer }, release)
            const { publisher, size } = release.statement
            if (identities.isOwn(publisher) && !(await replication.wasKept(root)))
              await replication.keep({ id, root, size })
          }
      }
      ensureAll().catch((error: unknown) =>
        log.warn({ error: String(error) }, 'not all that is held could be announced'),
      )
    },
  }
  const doubts = new Doubts({
    records: scope('doubts'),
    digest: () => trust.chain.digest(),
    recheck: () => libp2p.recheck(),
    dropHeads: () => catalogue.dropHeads(record => standing(record).state === 'refused'),
    reconsider: () => sync.reconsider(),
    log,
  })
  const events: Service = {
    async start() {
      catalogue.onRecord(event => {
        sync.announce(event.id)
        if (event.kind === 'equivocation') void headKeeper.heal(event.publisher, event.name)
      })
      catalogue.onForget(({ root }) => {
        if (catalogue.releasesByRoot(root).length > 0) return
        replication
          .leave(root)
          .catch((error: unknown) =>
            log.warn({ root, error: String(error) }, 'others could not be told that a copy is gone'),
          )
      })
      host.onPeer((_peer, change) => {
        if (change === 'connected') announcer.wake()
      })
      trust.chain.onChange(change => doubts.take(change))
    },
  }

  const services: readonly Service[] = [
    // Stopped last: what is under way when the node stops may still have to be signed or proved.
    { stop: () => signer.stop() },
    { stop: async () => authoritySigner?.stop() },
    { stop: () => verifier.stop() },
    records,
    store,
    pins,
    tokens,
    catalogue,
    trust,
    search,
    scores,
    sandbox,
    executor,
    { start: () => delegations.load() },
    { start: () => replication.load() },
    // Before anybody can reach this node: what is stored from now on is never taken for a leftover.
    tidy,
    events,
    doubts,
    refusals,
    libp2p,
    ...(limited === undefined ? [] : [limited]),
    router,
    names,
    knownPeers,
    announcer,
    catchingUp,
    sync,
    delegations,
    replication,
    headKeeper,
    trustNews,
    ...membership.services,
  ]
  return { api, tokens, peer: host.peer, addresses: () => host.addresses(), ...inOrder(services, log) }
}

const expiredResult = (root: string, keptSeconds: number) =>
  new CatalogError(
    'not-found',
    `The outputs of this execution are gone: they are kept for ${keptSeconds} seconds (storage.keepResultsSeconds). Execute it again.`,
    { root },
  )
