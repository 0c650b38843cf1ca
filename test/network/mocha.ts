// Gives the suites of @libp2p/interface-compliance-tests, which are written for mocha, vitest in its place: the global
// functions and the `this` that they use. To be imported before them.
import { afterAll, afterEach, beforeAll, beforeEach, describe, type TestContext, test } from 'vitest'

type Body = (this: unknown) => unknown

/** A suite's own time limits are replaced by one that a busy machine keeps, in milliseconds. */
const timeout = 120_000
/** Some cases race timers of 20 ms against each other: a busy machine may lose one, not three. */
const retry = 2

const mochaThis = (context?: TestContext) => ({ timeout: () => undefined, skip: () => context?.skip() })

/** What a case left to nobody fails that case, which is then tried again like any other. */
let unheard: unknown[] = []

async function run(body: Body, context: TestContext): Promise<void> {
  unheard = []
  await body.call(mochaThis(context))
  await new Promise(resolve => setImmediate(resolve))
  if (unheard.length > 0) throw unheard[0]
}

Object.assign(globalThis, {
  before: beforeAll,
  after: afterAll,
  beforeEach,
  afterEach,
  describe: (name: string, body: Body) => describe(name, () => void body.call(mochaThis())),
  it: (name: string, body: Body) => test(name, { timeout, retry }, context => run(body, context)),
})

/**
 * A case closes a connection while it writes on its streams, and nobody waits for those writes: one that waited for a
 * `drain` is rejected with the stream's `close` event. On a fast machine hardly any waits just then.
 */
process.removeAllListeners('unhandledRejection')
process.on('unhandledRejection', reason => {
  if (!(reason instanceof Event && reason.type === 'close')) unheard.push(reason)
})
