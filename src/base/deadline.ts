// Ends waiting in time: a library does not always heed its signal, and a stop must not depend on it.

/** The work, or at once the reason of the signal that fires first. The work itself goes on until it notices. */
export function raceAbort<T>(work: Promise<T>, ...signals: readonly (AbortSignal | undefined)[]): Promise<T> {
  const present = signals.filter(signal => signal !== undefined)
  if (present.length === 0) return work
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(present.find(({ aborted }) => aborted)?.reason as Error)
    if (present.some(({ aborted }) => aborted)) onAbort()
    for (const signal of present) signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => {
      for (const signal of present) signal.removeEventListener('abort', onAbort)
    })
  })
}

/** Whether the work ended, well or badly, within the time. */
export async function settleWithin(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const late = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => late.resolve(false), timeoutMs)
  const ended = work.then(
    () => true,
    () => true,
  )
  return Promise.race([ended, late.promise]).finally(() => clearTimeout(timer))
}

/** The caller's signal, where there is one, and another. */
export function eitherSignal(signal: AbortSignal | undefined, other: AbortSignal): AbortSignal {
  return signal === undefined ? other : AbortSignal.any([signal, other])
}

/** The caller's signal, and a timeout. */
export const withTimeout = (signal: AbortSignal | undefined, timeoutMs: number): AbortSignal =>
  eitherSignal(signal, AbortSignal.timeout(timeoutMs))

/** Waits, unless the signal ends it; never throws. The timer does not keep the process alive. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    timer.unref()
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
