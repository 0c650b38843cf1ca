// Progress of long work on a terminal's standard error: one line for each REF. Elsewhere there is none.
import { MultiBar, type SingleBar } from 'cli-progress'
import type { Progress } from '../control/api.ts'
import { formatBytes, formatRate, harmlessLine } from './text.ts'

export interface ProgressView {
  readonly onProgress: (progress: Progress) => void
  /** Takes the bars away. */
  stop(): void
}

export function showProgress({ json }: { readonly json: boolean }): ProgressView {
  if (json || process.stderr.isTTY !== true) return { onProgress: () => undefined, stop: () => undefined }
  const bars = new ProgressBars()
  return { onProgress: progress => bars.show(progress), stop: () => bars.stop() }
}

interface Line extends Record<string, unknown> {
  readonly progress: Progress
  readonly since: number
}

class ProgressBars {
  readonly #bars = new Map<string, SingleBar>()
  readonly #multi = new MultiBar({
    stream: process.stderr,
    format: formatLine as never,
    clearOnComplete: true,
    hideCursor: true,
    fps: 10,
    gracefulExit: false,
  })

  show(progress: Progress): void {
    const key = progress.ref ?? ''
    const { done = 0, total = 0 } = progress
    const bar = this.#bars.get(key) ?? this.#multi.create(total, done, { progress, since: performance.now() })
    this.#bars.set(key, bar)
    const payload = (bar as unknown as { payload?: Line }).payload
    const same = payload?.progress.phase === progress.phase
    bar.setTotal(total)
    bar.update(done, { progress, since: same ? payload.since : performance.now() } satisfies Line)
  }

  stop(): void {
    this.#multi.stop()
  }
}

function formatLine(
  _options: unknown,
  parameters: { value: number; total: number },
  { progress, since }: Line,
): string {
  const { value, total } = parameters
  const name = progress.ref === undefined ? '' : `${harmlessLine(progress.ref).slice(0, 28)} `
  const head = `${name}${progress.phase}`.padEnd(24)
  if (total <= 0) return `${head} ${harmlessLine(progress.message ?? '').slice(0, 50)}`
  const width = 20
  const filled = Math.min(width, Math.floor((value / total) * width))
  const bar = '█'.repeat(filled) + '░'.repeat(width - filled)
  return `${head} ${bar} ${formatBytes(value)} of ${formatBytes(total)}  ${formatRate(value, performance.now() - since)}`
}
