// Nodes for tests of the flows, in one process: real keys, catalogue and sync, memory for hosts, DHT and contents.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeEnvelope, type Statement } from '../../src/assets/release.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { defaultSyncOptions, Sync } from '../../src/distribution/sync.ts'
import { type AcceptDeps, accept } from '../../src/flows/accept.ts'
import { askPeers, type NextHeadDeps } from '../../src/flows/next-head.ts'
import { type PublishDeps, type Published, publish } from '../../src/flows/publish.ts'
import type { RemoveDeps } from '../../src/flows/remove.ts'
import { type Release, type ResolveDeps, resolve } from '../../src/flows/resolve.ts'
import type { StandingOf } from '../../src/flows/standing.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { Turns } from '../../src/registry/turns.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { Pins } from '../../src/store/pins.ts'
import { type EnvelopeSigner, sealStatement, verifyEnvelope } from '../../src/trust/envelope.ts'
import { generatePublisherKeys } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'
import { Verifier } from '../../src/trust/verifier.ts'
import { temporaryDirectory } from '../temporary.ts'

export const networkName = 'test'
export const newSigner = async () => new Signer({ keys: await generatePublisherKeys() })
export const verifier = new Verifier({ proveStatement: async () => undefined })

/** Chains are the trust folder's to test: here every one holds, unless a test says otherwise. */
export const good: StandingOf = () => ({ state: 'current' })
export const refuseNotice = async () => {
  throw new CatalogError('bad-record', 'The record is of a kind that this node does not know.')
}

export const catalogueOf = (ownPublisher?: string) =>
  new Catalogue(
    { records: new MemoryKeyValue(), log: silentLog },
    ownPublisher === undefined ? {} : { ownPublisher },
  )

/** A node that can publish with the signer's keys, resolve by asking its peers, accept and remove. */
export function node(
  network: MemoryNetwork,
  signer: EnvelopeSigner,
  routing = new MemoryRouting(),
  { standing = good, now = Date.now }: { standing?: StandingOf; now?: () => number } = {},
) {
  const host = network.createHost()
  const catalogue = catalogueOf(signer.fingerprint)
  const store = new MemoryContentStore()
  const accepting: AcceptDeps = {
    ...{ network: networkName, now, verifier, standing, catalogue },
    acceptNotice: refuseNotice,
    onRefusedHead: () => undefined,
  }
  const takes = (bytes: Uint8Array) => accept(accepting, bytes)
  const sync = new Sync(
    { host, catalogue, accept: takes, log: silentLog },
    { ...defaultSyncOptions, enabled: false },
  )
  const router = routing.createRouter(
    host.peer,
    async (_key, value) => void decodeEnvelope(value),
    () => 0,
  )
  const announced: string[] = []
  const turns = new Turns()
  const peers: string[] = []
  const ask: ResolveDeps['ask'] = (peer, question, options) => sync.ask(peer, question, options)
  const signs = {
    publisher: signer.fingerprint,
    seal: <S extends Statement>(statement: S) => sealStatement(statement, signer),
  }
  const publishing: PublishDeps & NextHeadDeps = {
    ...signs,
    signsFor: () => signs,
    network: networkName,
    now,
    store,
    catalogue,
    recall: async id => {
      const bytes = await catalogue.forgottenBytes(id)
      return bytes === undefined ? undefined : verifyEnvelope(decodeEnvelope(bytes) as Release)
    },
    announce: async ({ id }) => void announced.push(id),
    askPeers: (name, options) => askPeers({ peers: () => peers, ask, log: silentLog }, name, options),
    exclusively: (name, work) => turns.take(name, work),
  }
  const resolving: ResolveDeps = {
    catalogue,
    router,
    peers: () => peers,
    ask,
    accept: takes,
    now,
    standing,
    isHere: async root => (await store.state(root)) === 'complete',
    pinnedPeers: () => [],
    pins: {},
    log: silentLog,
  }
  const pins = new Pins({ records: new MemoryKeyValue() })
  const removing: RemoveDeps = { store, catalogue, pins, withdraw: async () => undefined }
  return {
    ...{
      host,
      sync,
      peer: host.peer,
      catalogue,
      store,
      router,
      announced,
      peers,
      publishing,
      resolving,
      removing,
    },
    accept: takes,
    publish: (path: string): Promise<Published> => publish(publishing, path),
    resolve: (ref: string, publisher?: string): Promise<Release> => resolve(resolving, ref, { publisher }),
  }
}

export type FlowNode = ReturnType<typeof node>

/** A package directory with a manifest and one file. */
export async function packageOf(
  name: string,
  version: string,
  content = `${name}@${version}`,
  spec: Record<string, unknown> = {},
): Promise<string> {
  const path = join(temporaryDirectory(), 'package')
  await mkdir(path)
  const manifest = {
    apiVersion: 'catalog.v1',
    kind: 'AssetPackage',
    metadata: { name, version },
    spec: { description: `The package ${name}`, ...spec },
  }
  await writeFile(join(path, 'catalog.json'), JSON.stringify(manifest))
  await writeFile(join(path, 'file'), content)
  return path
}
