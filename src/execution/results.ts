// Which contents are the outputs of executions, and for how long they are kept. Asks the records, stores nothing.
import type { CidText } from '../base/cid.ts'

/** What a record says that matters here. */
interface Ended {
  readonly id: string
  readonly resultRoot?: string
  readonly endedAt?: string
}

export interface ResultsDeps {
  readonly records: () => Iterable<Ended>
  readonly now: () => number
}

export interface ResultsOptions {
  /** After the end of the execution. */
  readonly keepMs: number
}

export class Results {
  readonly #deps: ResultsDeps
  readonly #options: ResultsOptions
  /** Outputs that are stored, or about to be, and not yet on the record of their execution. */
  readonly #underWay = new Map<string, CidText>()

  constructor(deps: ResultsDeps, options: ResultsOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Before the outputs are stored: they count as kept until the execution has ended. */
  begin(id: string, root: CidText): void {
    this.#underWay.set(id, root)
  }

  state(root: CidText): 'kept' | 'expired' | undefined {
    let state: 'kept' | 'expired' | undefined
    const oldest = this.#deps.now() - this.#options.keepMs
    for (const { id, resultRoot, endedAt } of this.#deps.records()) {
      if (endedAt === undefined) {
        if (resultRoot === root || this.#underWay.get(id) === root) return 'kept'
        continue
      }
      this.#underWay.delete(id)
      if (resultRoot !== root) continue
      if (Date.parse(endedAt) > oldest) return 'kept'
      state = 'expired'
    }
    return state
  }
}
