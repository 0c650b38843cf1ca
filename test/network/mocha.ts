// Gives the suites of @libp2p/interface-compliance-tests, which are written for mocha, vitest in its place: the global
// functions and the `this` that they use. To be imported before them.
import { afterAll, afterEach, beforeAll, beforeEach, describe, type TestContext, test } from 'vitest'

type Body = (this: unknown) => unknown

/** A suite's own time limits are replaced by one that a busy machine keeps, in milliseconds. */
const timeout = 120_000
/** Some cases race timers of 20 ms against each other: a busy machine may lose one, not three. */
const retry = 2

const mochaThis = (context?: TestContext) => ({ timeout: () => undefined, skip: () => context?.skip() })

Object.assign(globalThis, {
  before: beforeAll,
  after: afterAll,
  beforeEach,
  afterEach,
  describe: (name: string, body: Body) => describe(name, () => void body.call(mochaThis())),
  it: (name: string, body: Body) =>
    test(name, { timeout, retry }, async context => void (await body.call(mochaThis(context)))),
})

/**
 * A case closes a connection while it writes on its streams, and nobody waits for those writes: one that waited for a
 * `drain` is rejected with the stream's `close` event. On a fast machine hardly any waits just then.
 */
const heard = process.listeners('unhandledRejection')
process.removeAllListeners('unhandledRejection')
process.on('unhandledRejection', (reason, promise) => {
  if (reason instanceof Event && reason.type === 'close') return
  for (const listener of heard) listener(reason, promise)
})
