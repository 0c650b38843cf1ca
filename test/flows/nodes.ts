// Nodes for tests of the flows, in one process: real keys, catalogue and sync, memory for hosts, DHT and contents.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeEnvelope, type Statement } from '../../src/assets/release.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { defaultSyncOptions, Sync } from '../../src/distribution/sync.ts'
import { accept } from '../../src/flows/accept.ts'
import { type PublishDeps, type Published, publish } from '../../src/flows/publish.ts'
import type { RemoveDeps } from '../../src/flows/remove.ts'
import { type Release, type ResolveDeps, resolve } from '../../src/flows/resolve.ts'
import type { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { Turns } from '../../src/registry/turns.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { Pins } from '../../src/store/pins.ts'
import { sealStatement, verifyEnvelope } from '../../src/trust/envelope.ts'
import { generatePublisherKeys } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'
import { Verifier } from '../../src/trust/verifier.ts'
import { temporaryDirectory } from '../temporary.ts'

export const networkName = 'test'
export const newSigner = async () => new Signer({ keys: await generatePublisherKeys() })
export const verifier = new Verifier()

export const catalogueOf = (ownPublisher?: string) =>
  new Catalogue(
    { records: new MemoryKeyValue(), log: silentLog },
    ownPublisher === undefined ? {} : { ownPublisher },
  )

/** A node that can publish with the signer's keys, resolve by asking its peers, accept and remove. */
export function node(network: MemoryNetwork, signer: Signer, routing = new MemoryRouting()) {
  const host = network.createHost()
  const catalogue = catalogueOf(signer.fingerprint)
  const store = new MemoryContentStore()
  const accepting = { network: networkName, now: Date.now, verifier, catalogue }
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
  const publishing: PublishDeps = {
    network: networkName,
    publisher: signer.fingerprint,
    now: Date.now,
    store,
    seal: <S extends Statement>(statement: S) => sealStatement(statement, signer),
    catalogue,
    recall: async id => {
      const bytes = await catalogue.forgottenBytes(id)
      return bytes === undefined ? undefined : verifyEnvelope(decodeEnvelope(bytes) as Release)
    },
    announce: async ({ id }) => void announced.push(id),
    exclusively: (name, work) => turns.take(name, work),
  }
  const peers: string[] = []
  const resolving: ResolveDeps = {
    catalogue,
    router,
    peers: () => peers,
    ask: (peer, question, options) => sync.ask(peer, question, options),
    accept: takes,
    pins: {},
    log: silentLog,
  }
  const pins = new Pins({ records: new MemoryKeyValue() })
  const removing: RemoveDeps = { store, catalogue, pins, withdraw: async () => undefined }
  return {
    ...{ host, peer: host.peer, catalogue, store, router, announced, peers, publishing, resolving, removing },
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
