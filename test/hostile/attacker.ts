// The attacker: a program of its own on the wire and in the DHT, and a forge that seals whatever it is given with
// whatever keys it is given, checking nothing.
import {
  type Envelope,
  encodeStatement,
  type FreshnessStatement,
  type HeadStatement,
  type ListedVersion,
  type ReleaseStatement,
  type Signature,
  type Statement,
} from '../../src/assets/release.ts'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { cidOf, digestOfCid } from '../../src/base/cid.ts'
import { decodeRanges, encodeRanges, IdSet, reconcile } from '../../src/distribution/reconcile.ts'
import { syncProtocol } from '../../src/distribution/sync.ts'
import { transferProtocol } from '../../src/distribution/transfer-protocol.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { type EnvelopeSigner, signingMessage } from '../../src/trust/envelope.ts'
import { honestly } from '../distribution/peers.ts'
import type { Sample } from '../store/sample-content.ts'
import { day } from '../trust/test-network.ts'
import { networkName, publisherId, tool } from './node.ts'
import type { World } from './world.ts'

export type Way = 'sync' | 'news' | 'heads' | 'dht'

export class Attacker {
  readonly #world: World
  readonly #host
  readonly #router
  /** What it says it has. */
  #offers: readonly Uint8Array[] = []
  /** Answers in its own way; undefined leaves the question to the usual answers. */
  misbehave: ((question: Message, stream: ByteStream) => Promise<void> | undefined) | undefined

  /** A content that it serves, true or not. */
  content: Sample | undefined

  constructor(world: World) {
    this.#world = world
    this.#host = world.net.createHost()
    this.#host.handle(syncProtocol, stream => this.#serve(stream), { maxInboundPerPeer: 32, maxInbound: 32 })
    const transfer = (stream: ByteStream) => this.#transfer(stream)
    this.#host.handle(transferProtocol, transfer, { maxInboundPerPeer: 32, maxInbound: 32 })
    this.#router = world.routing.createRouter(
      this.#host.peer,
      async () => undefined,
      () => 1,
    )
  }

  get peer(): string {
    return this.#host.peer
  }

  get host() {
    return this.#host
  }

  async connect(): Promise<void> {
    await this.#host.dial(this.#world.client.host.addresses()[0] as string)
  }

  /** Lets the record come to the client. Resolves when it has, however it was received. */
  async show(record: Uint8Array, way: Way, key: RecordKey): Promise<void> {
    const { client } = this.#world
    this.#offers = [record]
    if (way === 'sync') await client.sync.reconcileWith(this.peer)
    else if (way === 'heads') await client.sync.ask(this.peer, { name: tool }, {})
    else if (way === 'news') await this.#news([record])
    else {
      // Once pushed, and once found by whoever looks the key up.
      await this.#router.putRecord(key, record)
      await client.router.getRecord(key)
    }
    this.#offers = []
  }

  async #news(records: readonly Uint8Array[]): Promise<void> {
    const { client } = this.#world
    const before = client.arrivals.length
    const stream = await this.#host.open(client.peer, syncProtocol)
    const ids = records.map(record => digestOfCid(cidOf(record)))
    await stream.write(encodeFrame({ op: 'news', ids }))
    await new FrameReader(stream).message(1024)
    await stream.close()
    const until = Date.now() + 10_000
    while (client.arrivals.length === before && Date.now() < until)
      await new Promise(resolve => setTimeout(resolve, 2))
  }

  async #serve(stream: ByteStream): Promise<void> {
    const reader = new FrameReader(stream)
    for (;;) {
      const question = await reader.message(4 * 1024 * 1024)
      if (question === undefined) break
      const misbehaviour = this.misbehave?.(question, stream)
      if (misbehaviour !== undefined) await misbehaviour
      else for (const answer of this.#answers(question)) await stream.write(encodeFrame(answer))
    }
    await stream.close()
  }

  async #transfer(stream: ByteStream): Promise<void> {
    const reader = new FrameReader(stream)
    for (let asked = await reader.message(1024); asked !== undefined; asked = await reader.message(1024))
      if (this.content !== undefined && this.content.root === asked['root'])
        await honestly(this.content, asked, stream)
      else await stream.write(encodeFrame({ id: asked['id'], code: 'not-found' }))
    await stream.close()
  }

  #answers(question: Message): Message[] {
    if (question['op'] === 'reconcile') {
      const ids = this.#offers.map(record => digestOfCid(cidOf(record))).sort(Buffer.compare)
      const { reply } = reconcile(new IdSet(ids), decodeRanges(question['ranges']), true)
      return [{ ranges: encodeRanges(reply) }]
    }
    if (question['op'] === 'records') return [...this.#offers.map(record => ({ record })), { end: true }]
    return question['op'] === 'news' ? [{}] : [{ records: [...this.#offers] }]
  }
}

/** Signs what it is given, whoever's it is. */
export async function seal(statement: Statement, signer: EnvelopeSigner): Promise<Uint8Array> {
  return sealBytes(statement.type, encodeStatement(statement), signer, statement.publisher)
}

/** As `seal`, for bytes that need not be a statement; `type` is the domain they are signed under. */
export async function sealBytes(
  type: Statement['type'],
  statement: Uint8Array,
  signer: EnvelopeSigner,
  publisher = publisherId,
): Promise<Uint8Array> {
  const { chain = [], publicKeys } = signer
  const signatures = await signer.sign(signingMessage(type, publicKeys, publisher, statement, chain))
  return encodeCbor({ v: 1, statement, signatures, chain, proofs: [] })
}

export interface RawEnvelope {
  v: number
  statement: Uint8Array
  signatures: Signature[]
  chain: Uint8Array[]
  proofs: Uint8Array[]
}

/** The same envelope with something in it changed afterwards. */
export function repack(bytes: Uint8Array, change: (raw: RawEnvelope) => unknown): Uint8Array {
  const raw = decodeCbor(bytes, 1024 * 1024, 'An envelope') as RawEnvelope
  return encodeCbor({ ...raw, ...(change(raw) as object) })
}

/** The next head of acme/tool as its publisher would sign it, with changes. */
export const nextHead = (world: World, changes: Partial<HeadStatement> = {}): HeadStatement => {
  const [, known] = world.heads
  return {
    ...{ type: 'head', network: networkName, publisher: publisherId, name: tool },
    sequence: known.statement.sequence + 1,
    previous: known.id,
    versions: known.statement.versions,
    signedAt: world.clock.now,
    expiresAt: world.clock.now + 30 * day,
    ...changes,
  }
}

/** The first head of another name. */
export function firstHead(world: World, name: string, versions: readonly ListedVersion[]): HeadStatement {
  const { previous: _, ...head } = nextHead(world, { name, sequence: 1, versions })
  return head
}

export const freshnessOf = (
  world: World,
  head: Envelope<HeadStatement>,
  changes: Partial<FreshnessStatement> = {},
): FreshnessStatement => ({
  ...{ type: 'freshness', network: networkName, publisher: publisherId, name: head.statement.name },
  ...{ head: head.id, sequence: head.statement.sequence },
  ...{ signedAt: world.clock.now, expiresAt: world.clock.now + 30 * day },
  ...changes,
})

/** A release with the content of acme/tool 1.1.0 under another name or version, and a manifest that says so. */
export function nextRelease(world: World, changes: Partial<ReleaseStatement> = {}): ReleaseStatement {
  const { statement } = world.releases[1]
  const { name = tool, version = '1.2.0' } = changes
  const manifest = {
    ...(statement.manifest as Record<string, unknown>),
    metadata: { name, version },
  }
  return { ...statement, version, manifest, signedAt: world.clock.now, ...changes }
}
