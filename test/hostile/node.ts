// A node for the hostile suite, put together as the composition root does it: certificates, signatures, catalogue, sync,
// transfer and flows are the real ones; host, DHT and disk are in memory, and the clock is passed in. What becomes of
// every record that reaches it is noted.
import type { Signature, Statement } from '../../src/assets/release.ts'
import { cidOf } from '../../src/base/cid.ts'
import { CatalogError, type ErrorCode, isCatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { ContentFetcher } from '../../src/distribution/content-fetcher.ts'
import { PeerScores } from '../../src/distribution/peer-scores.ts'
import { findProviders } from '../../src/distribution/providers.ts'
import { defaultSyncOptions, Sync } from '../../src/distribution/sync.ts'
import { TransferServer } from '../../src/distribution/transfer-server.ts'
import { type AcceptDeps, accept } from '../../src/flows/accept.ts'
import { selectRecord, validateRecord } from '../../src/flows/dht-records.ts'
import { fetchRelease } from '../../src/flows/fetch.ts'
import { askPeers, type NextHeadDeps } from '../../src/flows/next-head.ts'
import { type PublishDeps, publish } from '../../src/flows/publish.ts'
import {
  type Head,
  type Release,
  type Resolution,
  type ResolveDeps,
  type ResolveOptions,
  resolution,
} from '../../src/flows/resolve.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import type { MemoryRouting } from '../../src/network/memory-router.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { Turns } from '../../src/registry/turns.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { type EnvelopeSigner, sealStatement } from '../../src/trust/envelope.ts'
import { faultySignature } from '../../src/trust/signature-check.ts'
import { noticeOf, TrustChain, type TrustChange } from '../../src/trust/trust-chain.ts'
import { Verifier } from '../../src/trust/verifier.ts'
import { quick } from '../distribution/peers.ts'
import { packageOf } from '../flows/nodes.ts'
import { goldenRoot, type Holder, idOf, keysOf, network, signers } from '../trust/test-network.ts'

/** The network's name, as statements carry it. */
export const networkName = goldenRoot.network
export const tool = 'acme/tool'
export const publisherId = idOf('publisher')

type Chain = readonly { readonly bytes: Uint8Array }[]

const signed = new Map<string, Promise<readonly Signature[]>>()

/** Signs as a publisher, with the keys of whoever holds them; the same message costs one Falcon signature. */
export function signerOf(holder: Holder, chain: Chain, publisher = publisherId): EnvelopeSigner {
  const { ed25519, falcon } = keysOf(holder)
  const sign = async (message: Uint8Array): Promise<readonly Signature[]> => {
    const [one, two] = await signers[holder].sign(message)
    return [
      { algorithm: 'ed25519', key: ed25519, signature: one?.signature as Uint8Array },
      { algorithm: 'falcon-1024-r3', key: falcon, signature: two?.signature as Uint8Array },
    ]
  }
  return {
    fingerprint: publisher,
    chain: chain.map(({ bytes }) => bytes),
    publicKeys: { ed25519, falcon },
    sign(message) {
      const key = `${holder} ${cidOf(message)}`
      const signatures = signed.get(key) ?? sign(message)
      signed.set(key, signatures)
      return signatures
    },
  }
}

export interface Clock {
  now: number
}

/** What became of a record that reached a node. */
export interface Arrival {
  readonly id: string
  readonly outcome: 'taken' | 'crash' | ErrorCode
  readonly why: string
}

interface NodeParts {
  readonly net: MemoryNetwork
  readonly routing: MemoryRouting
  readonly clock: Clock
  /** What is on its disk. */
  readonly records?: MemoryKeyValue
  readonly store?: MemoryContentStore
  readonly identity?: EnvelopeSigner
  /** Whether it reconciles when it is connected, and heeds news. */
  readonly curious?: boolean
}

export async function startNode(parts: NodeParts) {
  const { net, routing, clock, curious = false } = parts
  const records = parts.records ?? new MemoryKeyValue()
  const store = parts.store ?? new MemoryContentStore()
  const at = { identity: parts.identity }
  const log = silentLog
  const host = net.createHost()
  const catalogue = new Catalogue(
    { records, log },
    at.identity === undefined ? {} : { ownPublisher: at.identity.fingerprint },
  )
  const trust = new TrustChain(
    { notices: catalogue, check: async check => faultySignature(check), now: () => clock.now, log },
    { firstRoot: goldenRoot.bytes, network },
  )
  const verifier = new Verifier({ proveStatement: envelope => trust.proveStatement(envelope) })
  const standing: AcceptDeps['standing'] = envelope => trust.standing(envelope)
  const proving = { network: networkName, now: () => clock.now, verifier, standing }
  let doubts: Promise<unknown> = Promise.resolve()
  /** As the daemon does it: what was believed under older news is looked at again. */
  const doubt = async (change: TrustChange) => {
    if (change === 'renewed') return
    const dropped = await catalogue.dropHeads(record => standing(record).state === 'refused')
    if (change === 'root' || dropped.length > 0) sync.reconsider()
  }
  trust.onChange(change => {
    doubts = doubts.then(() => doubt(change))
  })
  const arrivals: Arrival[] = []
  const noting = async (bytes: Uint8Array, work: () => Promise<unknown>) => {
    const id = cidOf(bytes)
    try {
      await work()
      await doubts
      arrivals.push({ id, outcome: 'taken', why: '' })
    } catch (error) {
      const outcome = isCatalogError(error) ? error.code : 'crash'
      arrivals.push({ id, outcome, why: String(error) })
      throw error
    }
  }
  const accepting: AcceptDeps = {
    ...proving,
    catalogue,
    acceptNotice: bytes => trust.accept(bytes),
    onRefusedHead: () => undefined,
  }
  const takes = (bytes: Uint8Array) => noting(bytes, () => accept(accepting, bytes))
  const takeNotice = async (key: string, bytes: Uint8Array) => {
    if (noticeOf(bytes).key !== key)
      throw new CatalogError('bad-record', 'The record does not belong under its key.')
    return trust.accept(bytes)
  }
  const validate = (key: RecordKey, value: Uint8Array) =>
    noting(value, () => validateRecord({ proving, catalogue, takeNotice }, key, value))
  const router = routing.createRouter(host.peer, validate, (key, values) =>
    selectRecord(key, values, bytes => noticeOf(bytes).sequence),
  )
  const sync = new Sync({ host, catalogue, accept: takes, log }, { ...defaultSyncOptions, enabled: curious })
  new TransferServer({ host, store, log })
  const fetcher = new ContentFetcher(
    {
      ...{ host, store, log },
      scores: new PeerScores({ records: new MemoryKeyValue() }),
      findProviders: (root, options) => findProviders({ host, router, log }, root, options),
    },
    quick,
  )
  const ask: ResolveDeps['ask'] = (peer, question, options) => sync.ask(peer, question, options)
  const peers = () => host.connections().map(({ peer }) => peer)
  const resolving: ResolveDeps = {
    ...{ catalogue, router, peers, ask, accept: takes, now: () => clock.now, standing, log },
    isHere: async root => (await store.state(root)) === 'complete',
    pinnedPeers: () => [],
    pins: {},
  }
  const turns = new Turns()
  const identity = (): EnvelopeSigner => {
    if (at.identity === undefined) throw new Error('this node publishes nothing')
    return at.identity
  }
  const publishing: Omit<NextHeadDeps, 'publisher' | 'seal'> & PublishDeps = {
    ...{ network: networkName, now: () => clock.now, store, catalogue },
    signsFor: () => ({
      publisher: identity().fingerprint,
      seal: <S extends Statement>(statement: S) => sealStatement(statement, identity()),
    }),
    recall: async () => undefined,
    announce: async () => undefined,
    askPeers: (name, options) => askPeers({ peers, ask, log }, name, options),
    exclusively: (name, work) => turns.take(name, work),
  }
  await catalogue.start()
  await trust.start()
  await sync.start()
  return {
    ...{
      host,
      peer: host.peer,
      records,
      store,
      catalogue,
      trust,
      router,
      sync,
      arrivals,
      at,
      publishing,
      standing,
    },
    /** Resolves once what was believed before was looked at again. */
    settled: async () => void (await doubts),
    accept: takes,
    head: async (name = tool, publisher = publisherId): Promise<Head> =>
      (await catalogue.head(publisher, name)) as Head,
    publish: async (name: string, version: string): Promise<Release> =>
      (await publish(publishing, await directoryOf(name, version))).release,
    /** Resolves, then brings all of the content: what `catalog install` and `fetch` do. */
    async install(ref: string, options: ResolveOptions = {}): Promise<Resolution> {
      const found = await resolution(resolving, ref, options)
      const announce = async () => undefined
      await fetchRelease({ store, fetcher, announce }, found.release, options)
      return found
    },
    async stop() {
      await sync.stop()
      await host.stop()
      await catalogue.stop()
      await verifier.stop()
    },
  }
}

export type HostileNode = Awaited<ReturnType<typeof startNode>>

const directories = new Map<string, Promise<string>>()
function directoryOf(name: string, version: string): Promise<string> {
  const made = directories.get(`${name}@${version}`) ?? packageOf(name, version)
  directories.set(`${name}@${version}`, made)
  return made
}

/** Everything that is on a disk: what a backup is made of. */
export async function copyOf(records: MemoryKeyValue): Promise<MemoryKeyValue> {
  const copy = new MemoryKeyValue()
  for await (const [key, value] of records.entries({ prefix: '' })) await copy.put(key, value)
  return copy
}
