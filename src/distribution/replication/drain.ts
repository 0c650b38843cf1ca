// Waiting until what is kept here is kept by others: how far it is, and when it goes no further.
import type { CallOptions } from '../../base/lifecycle.ts'
import type { CopyViews } from './copy-views.ts'
import type { Obligations } from './obligations.ts'
import type { Tender } from './tender.ts'

export interface DrainState {
  readonly total: number
  /** Roots that are still kept here. */
  readonly left: readonly string[]
}

export interface DrainOptions extends CallOptions {
  readonly onProgress?: (state: DrainState) => void
  /** Ends when nothing has moved for this long. */
  readonly patienceMs: number
}

const lookEveryMs = 250

/** Resolves when all is handed over, or nothing moves any more: what is left has too few other holders. */
export async function untilHandedOver(
  deps: { readonly obligations: Obligations; readonly views: CopyViews; readonly tender: Tender },
  { signal, onProgress, patienceMs }: DrainOptions,
): Promise<DrainState> {
  const total = deps.obligations.size
  let trace = ''
  let movedAt = performance.now()
  for (;;) {
    const left = [...deps.obligations.all()].map(({ root }) => root)
    const state = { total, left }
    onProgress?.(state)
    if (left.length === 0) return state
    const now = performance.now()
    // Changes as long as a handover goes on: who holds what, and how much of it.
    const seen = left
      .flatMap(root =>
        deps.tender.copies(root).map(copy => ({ ...copy, ...deps.views.get(root, copy.peer) })),
      )
      .map(({ peer, standing, bytes }) => `${peer} ${standing} ${bytes}`)
      .join()
    if (seen !== trace) movedAt = now
    trace = seen
    if (now - movedAt >= patienceMs) return state
    await pause(lookEveryMs, signal)
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', end)
      resolve()
    }, ms)
    if (signal?.aborted === true) end()
    else signal?.addEventListener('abort', end, { once: true })
  })
}
