// What the clocks of other members say, beside this node's own: for a person, who is told that one is wrong. Nothing is
// corrected or decided by it. Whoever signs with a clock that runs ahead is believed by nobody, and would not know why.

/** What was said last; on the clock that nobody sets, so that setting this node's own clock shows at once. */
interface Said {
  readonly time: number
  readonly at: number
}

/** Records that were signed further ahead are refused. */
const maxDifferenceMs = 10 * 60 * 1000
const maxPeers = 64

export class PeerClocks {
  readonly #now: () => number
  readonly #uptime: () => number
  readonly #said = new Map<string, Said>()

  /** Both in milliseconds: `now` since 1970, `uptime` by a clock that only runs. */
  constructor(deps: { readonly now: () => number; readonly uptime: () => number }) {
    this.#now = deps.now
    this.#uptime = deps.uptime
  }

  /** A member says what time it is. The same time again is the same message, looked at again. */
  note(peer: string, time: number): void {
    if (this.#said.get(peer)?.time === time) return
    this.#said.delete(peer)
    this.#said.set(peer, { time, at: this.#uptime() })
    const [oldest] = this.#said.keys()
    if (this.#said.size > maxPeers && oldest !== undefined) this.#said.delete(oldest)
  }

  /** A sentence where most of the members that this node met have another time; a few may be wrong, or lie. */
  trouble(): string | undefined {
    const uptime = this.#uptime()
    const here = this.#now()
    const ahead = [...this.#said.values()]
      .map(({ time, at }) => here - (time + uptime - at))
      .sort((a, b) => a - b)
    const middle = ahead[Math.floor(ahead.length / 2)]
    const wrong = ahead.filter(by => Math.abs(by) > maxDifferenceMs).length
    if (middle === undefined || wrong * 2 <= ahead.length) return undefined
    return `here it is ${text(here)}, and for ${wrong} of ${ahead.length} members met it is about ${text(here - middle)}; is the clock of this node wrong? What is signed in the future is refused by everybody. Set it.`
  }
}

const text = (at: number): string =>
  Math.abs(at) < 8.64e15 ? new Date(at).toISOString().replace(/\.\d+Z$/, 'Z') : 'the end of time'
