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
