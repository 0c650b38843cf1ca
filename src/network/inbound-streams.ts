// The fence round protocol handlers, the same for every host: refuses strangers and peers without the capability that
// a protocol asks for, counts the streams that others opened here, refuses those over the limits, gives each handler a
// signal, and catches whatever a handler throws.
import { CatalogError, isAbort } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Admission } from './admission.ts'
import type { ByteStream, PeerText, ProtocolOptions, StreamHandler } from './host.ts'

/** What the fence needs to know of a stream beside its port: when it is over. */
export interface EndingStream extends ByteStream {
  readonly ended: AbortSignal
}

interface Protocol {
  readonly handler: StreamHandler
  readonly options: ProtocolOptions
  readonly perPeer: Map<PeerText, number>
  open: number
}

export class InboundStreams {
  readonly #log: Log
  readonly #onDenied: (peer: PeerText, denied: CatalogError) => void
  readonly #protocols = new Map<string, Protocol>()
  readonly #running = new Set<{ readonly stream: EndingStream; readonly done: Promise<void> }>()
  #stopping = new AbortController()

  /** `onDenied` hears of members who lack a capability. */
  constructor(log: Log, onDenied: (peer: PeerText, denied: CatalogError) => void = () => undefined) {
    this.#log = log
    this.#onDenied = onDenied
  }

  get protocols(): string[] {
    return [...this.#protocols.keys()]
  }

  register(protocol: string, handler: StreamHandler, options: ProtocolOptions): void {
    if (this.#protocols.has(protocol)) throw new Error(`the protocol ${protocol} already has a handler`)
    this.#protocols.set(protocol, { handler, options, perPeer: new Map(), open: 0 })
  }

  optionsOf(protocol: string): ProtocolOptions | undefined {
    return this.#protocols.get(protocol)?.options
  }

  /**
   * Runs the handler of the protocol on the stream, or resets the stream. Never throws.
   * `admission`: the peer's; absent for a stranger.
   */
  async accept(protocol: string, stream: EndingStream, admission: Admission | undefined): Promise<void> {
    const entry = this.#protocols.get(protocol)
    const mine = entry?.perPeer.get(stream.peer) ?? 0
    if (entry === undefined || this.#stopping.signal.aborted)
      return stream.abort(new CatalogError('daemon-stopping', `Nobody answers ${protocol} here.`))
    const denied = denial(protocol, entry.options, stream.peer, admission)
    if (denied !== undefined) {
      this.#log.debug({ protocol, peer: stream.peer, code: denied.code }, 'stream refused: not allowed')
      if (admission !== undefined) this.#onDenied(stream.peer, denied)
      return stream.abort(denied)
    }
    if (mine >= entry.options.maxInboundPerPeer || entry.open >= entry.options.maxInbound) {
      this.#log.debug({ protocol, peer: stream.peer, open: entry.open, mine }, 'stream refused: too many')
      return stream.abort(new CatalogError('busy', `Too many streams of ${protocol} are open.`))
    }
    entry.perPeer.set(stream.peer, mine + 1)
    entry.open++
    const run = { stream, done: this.#run(protocol, entry, stream) }
    this.#running.add(run)
    await run.done
    this.#running.delete(run)
    entry.open--
    const left = (entry.perPeer.get(stream.peer) ?? 1) - 1
    if (left > 0) entry.perPeer.set(stream.peer, left)
    else entry.perPeer.delete(stream.peer)
  }

  async #run(protocol: string, entry: Protocol, stream: EndingStream): Promise<void> {
    const signal = AbortSignal.any([stream.ended, this.#stopping.signal])
    try {
      await entry.handler(stream, { signal })
      await stream.close()
    } catch (error) {
      const cause = error instanceof Error ? error : new Error(String(error))
      if (!signal.aborted && !isAbort(cause))
        this.#log.debug({ protocol, peer: stream.peer, err: cause }, 'stream handler failed')
      stream.abort(cause)
    }
  }

  /** Ends every running handler's stream, and waits a bounded time for the handlers to notice. */
  async stop(timeoutMs: number): Promise<void> {
    const reason = new CatalogError('daemon-stopping', 'This node is stopping.')
    this.#stopping.abort(reason)
    const running = [...this.#running]
    for (const { stream } of running) stream.abort(reason)
    const timer = Promise.withResolvers<void>()
    const timeout = setTimeout(timer.resolve, timeoutMs)
    await Promise.race([Promise.all(running.map(run => run.done)), timer.promise])
    clearTimeout(timeout)
  }

  /** Lets streams in (again). */
  start(): void {
    if (this.#stopping.signal.aborted) this.#stopping = new AbortController()
  }
}

function denial(
  protocol: string,
  { open, capability }: ProtocolOptions,
  peer: PeerText,
  admission: Admission | undefined,
): CatalogError | undefined {
  if (open === true) return undefined
  if (admission === undefined)
    return new CatalogError(
      'not-a-member',
      `${peer} asked for ${protocol} and is no member of this network.`,
      {
        peer,
      },
    )
  if (capability === undefined || admission.capabilities.has(capability)) return undefined
  return new CatalogError(
    'capability-missing',
    `${peer} asked for ${protocol}, but its certificate does not grant ${capability}.`,
    { peer, capability, certificate: admission.certificate },
  )
}
