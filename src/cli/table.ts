// Tables that fit the terminal: 80 columns suffice; a pipe gets everything uncut.
import Table from 'cli-table3'
import { harmlessLine } from './text.ts'

export interface Column {
  readonly title: string
  readonly right?: true
  /** Gives way first when the terminal is narrow. */
  readonly flexible?: true
}

const gap = 2
const minFlexible = 12

/** The width of the terminal; without one there is no limit. */
const outputWidth = (): number => (process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY)

export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width = outputWidth(),
): string {
  const cells = rows.map(row => row.map(harmlessLine))
  const natural = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map(row => row[index]?.length ?? 0)),
  )
  const widths = fitWidths(columns, natural, width)
  const table = new Table({
    head: columns.map(column => column.title),
    colAligns: columns.map(column => (column.right === true ? 'right' : 'left')),
    colWidths: widths.map(cell => cell + gap),
    chars: noBorders,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': gap },
  })
  table.push(...cells.map(row => [...row]))
  return table
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
    .join('\n')
}

function fitWidths(columns: readonly Column[], natural: readonly number[], width: number): number[] {
  const widths = [...natural]
  const order = columns
    .map((_, index) => index)
    .filter(index => columns[index]?.flexible === true)
    .reverse()
  for (const index of order) {
    const over = widths.reduce((sum, cell) => sum + cell + gap, -gap) - width
    if (over <= 0) break
    widths[index] = Math.max(minFlexible, (widths[index] ?? 0) - over)
  }
  return widths
}

const noBorders = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
    'middle',
  ].map(name => [name, '']),
)
