// A member of the network that keeps to no rule: it has the keys and certificates of a home, believes everybody, shows
// whatever records it was given as if it knew no others, and puts anything into the DHT.

import { decodeEnvelope, type Envelope } from '../../src/assets/release.ts'
import { cidOf, digestOfCid } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { answerSyncQuestion } from '../../src/distribution/sync/answers.ts'
import { syncProtocol } from '../../src/distribution/sync.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import { KadRouter } from '../../src/network/kad-router.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { membershipOf } from './membership.ts'

export class HostileMember {
  readonly host: Libp2pHost
  readonly #router: KadRouter
  readonly #records = new Map<string, Uint8Array>()

  private constructor(host: Libp2pHost, router: KadRouter) {
    this.host = host
    this.#router = router
    host.handle(
      syncProtocol,
      async stream => {
        const reader = new FrameReader(stream)
        for (;;) {
          const question = await reader.message(1024 * 1024)
          if (question === undefined) return stream.close()
          await answerSyncQuestion(
            question,
            { catalogue: this.#catalogue, onNews: () => undefined },
            answer => stream.write(encodeFrame(answer)),
          )
        }
      },
      { maxInboundPerPeer: 8, maxInbound: 32 },
    )
  }

  /** With the node key and the node certificate of a home whose daemon does not run. */
  static async start(home: string, network = 'catalog'): Promise<HostileMember> {
    const host = new Libp2pHost(
      { ...(await membershipOf(home)), log: silentLog },
      { network, listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] },
    )
    const router = new KadRouter({
      host,
      validate: async () => undefined,
      // What comes last is always best, or it could not put an old record over a new one of its own.
      select: (_key, values) => values.length - 1,
      publisherOf: () => 'anybody',
      log: silentLog,
    })
    const member = new HostileMember(host, router)
    await host.start()
    await router.start()
    return member
  }

  async stop(): Promise<void> {
    await this.#router.stop()
    await this.host.stop()
  }

  /** Shows these records and no others from now on. */
  show(...records: readonly Uint8Array[]): void {
    this.#records.clear()
    for (const bytes of records) this.#records.set(cidOf(bytes), bytes)
  }

  /** Connects, and says that what it shows is new: the other asks for what it does not know. */
  async tell(address: string): Promise<void> {
    const ids = [...this.#records.keys()]
    await this.#ask(address, { op: 'news', ids: ids.map(digestOfCid) })
  }

  /** How many nodes took the record into their part of the DHT. */
  async put(key: RecordKey, value: Uint8Array): Promise<number> {
    return this.#router.putRecord(key, value, { signal: AbortSignal.timeout(10_000) })
  }

  /** What a node tells its peers of a name: heads, and what belongs to them. */
  async heads(address: string, name: string): Promise<Uint8Array[]> {
    const [answer] = await this.#ask(address, { op: 'heads', name })
    return (answer?.['records'] ?? []) as Uint8Array[]
  }

  async record(address: string, id: string): Promise<Uint8Array> {
    const [answer] = await this.#ask(address, { op: 'records', ids: [digestOfCid(id)] })
    if (!(answer?.['record'] instanceof Uint8Array)) throw new Error(`${address} does not have ${id}`)
    return answer['record']
  }

  async #ask(address: string, question: Message): Promise<Message[]> {
    const stream = await this.host.open(await this.host.dial(address), syncProtocol)
    await stream.write(encodeFrame(question))
    const answer = await new FrameReader(stream).message(4 * 1024 * 1024)
    stream.abort(new Error('asked'))
    return answer === undefined ? [] : [answer]
  }

  readonly #catalogue = {
    recordIds: () => [...this.#records.keys()].map(digestOfCid).sort(Buffer.compare),
    record: async (id: string) => this.#records.get(id),
    recordsOf: async (name: string) =>
      [...this.#records.values()].filter(bytes => envelopeOf(bytes)?.statement.name === name),
    releasesByRoot: () => [],
  }
}

function envelopeOf(bytes: Uint8Array): Envelope | undefined {
  try {
    return decodeEnvelope(bytes)
  } catch {
    return undefined
  }
}
