// What a measurement gives, and how it is judged: series of samples taken in turn, ratios of their medians, and the
// table of them for a terminal, a README or a program.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export interface Settings {
  /** Samples of each series; the median counts. */
  readonly rounds: number
  /** Size of the packages that are fetched and published. */
  readonly mebibytes: number
  /** Size of the package during whose move the memory is watched. */
  readonly memoryMebibytes: number
  readonly seed: number
  /** A line for whoever waits. */
  readonly say: (line: string) => void
}

export interface RowHead {
  readonly what: string
  /** In words, as the table shows it. */
  readonly wanted: string
}

export interface Figure {
  readonly row: string
  readonly what: string
  readonly ours: string
  readonly reference: string
  readonly ratio?: number
  readonly wanted: string
  readonly verdict: 'yes' | 'NO' | 'SKIP' | 'FAILED'
  /** Why there is no figure. */
  readonly reason?: string
  /** Every sample by series, in the series' unit. */
  readonly samples: Readonly<Record<string, readonly number[]>>
}

/** One thing that is timed again and again. */
export interface Series {
  readonly name: string
  /** One sample, in milliseconds; what it needs besides is done before and after the timed part. */
  measure(round: number): Promise<number>
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return ((sorted[(sorted.length - 1) >> 1] ?? Number.NaN) + (sorted[sorted.length >> 1] ?? Number.NaN)) / 2
}

/** Samples of every series, A B A B …, so that a machine that slows down slows all of them. */
export async function inTurn(
  settings: Settings,
  series: readonly Series[],
): Promise<Record<string, number[]>> {
  const samples: Record<string, number[]> = Object.fromEntries(series.map(({ name }) => [name, []]))
  for (let round = 0; round < settings.rounds; round++) {
    for (const { name, measure } of series) {
      // What the one before left to be written is not to be paid by this one.
      await promisify(execFile)('sync')
      const milliseconds = await measure(round)
      samples[name]?.push(milliseconds)
      settings.say(`  round ${round + 1}: ${name} ${milliseconds.toFixed(0)} ms`)
    }
  }
  return samples
}

export async function timed(work: () => unknown): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

export const mebibytesPerSecond = (mebibytes: number, milliseconds: number): string => {
  const rate = mebibytes / (milliseconds / 1000)
  return `${rate.toFixed(rate < 20 ? 2 : 0)} MiB/s`
}

/** How much faster ours is than the reference (of several, the slower): the ratio of the medians of their times. */
export function speed(
  row: string,
  head: RowHead & { readonly atLeast: number },
  samples: Readonly<Record<string, readonly number[]>>,
  ours: string,
  references: readonly string[],
  show: (milliseconds: number) => string,
): Figure {
  const time = (name: string) => median(samples[name] ?? [])
  const ratio = Math.max(...references.map(time)) / time(ours)
  return {
    row,
    what: head.what,
    ours: show(time(ours)),
    reference: references.map(name => `${name} ${show(time(name))}`).join(', '),
    ratio,
    wanted: head.wanted,
    verdict: ratio >= head.atLeast ? 'yes' : 'NO',
    samples: Object.fromEntries([ours, ...references].map(name => [name, samples[name] ?? []])),
  }
}

export const skipped = (row: string, head: RowHead, reason: string): Figure => ({
  row,
  what: head.what,
  ours: '',
  reference: '',
  wanted: head.wanted,
  verdict: 'SKIP',
  reason,
  samples: {},
})

export const failed = (row: string, head: RowHead, error: unknown): Figure => ({
  ...skipped(row, head, error instanceof Error ? error.message : String(error)),
  verdict: 'FAILED',
})

const columns = ['what', 'ours', 'reference', 'ratio', 'wanted', 'verdict'] as const

const cells = (figure: Figure): string[] => [
  figure.what,
  figure.ours,
  figure.reference,
  figure.ratio === undefined ? '' : figure.ratio.toFixed(2),
  figure.wanted,
  figure.reason === undefined ? figure.verdict : `${figure.verdict}: ${figure.reason}`,
]

export function toText(figures: readonly Figure[]): string {
  const rows = [[...columns], ...figures.map(cells)]
  // The last column may be a long reason: it is not padded.
  const widths = columns.map((_, at) => Math.max(...rows.map(row => row[at]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  return rows.map(line).join('\n')
}

export function toMarkdown(figures: readonly Figure[]): string {
  const line = (row: readonly string[]) => `| ${row.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line([...columns]), `|${columns.map(() => '---|').join('')}`, ...figures.map(cells).map(line)].join(
    '\n',
  )
}
