// `npm run bench`: what moving and publishing packages costs here, each figure against a reference that is measured
// in turn with it. Ratios are of medians; absolute figures are for the reader, since machines differ and drift.
//
//   npm run bench -- [--only ROW,…] [--rounds N] [--mib N] [--memory-mib N] [--seed N] [--markdown] [--json FILE]
//
// A row that needs what this machine has not says SKIP and why. Ends with 1 when a row could not be measured.
import { writeFileSync } from 'node:fs'
import { availableParallelism, release } from 'node:os'
import { parseArgs } from 'node:util'
import { type Figure, failed, type RowHead, type Settings, toMarkdown, toText } from './figures.ts'
import { Laboratory } from './laboratory.ts'
import * as churn from './rows/churn.ts'
import * as delta from './rows/delta.ts'
import * as fetch from './rows/fetch.ts'
import * as links from './rows/links.ts'
import * as memory from './rows/memory.ts'
import * as publish from './rows/publish.ts'
import * as several from './rows/several.ts'
import * as stream from './rows/stream.ts'

/** Rows that are measured together, in the order of the table. */
interface Group {
  readonly rows: Readonly<Record<string, RowHead>>
  measure(laboratory: Laboratory, settings: Settings, asked: ReadonlySet<string>): Promise<Figure[]>
}

const groups: readonly Group[] = [stream, fetch, several, links, delta, publish, memory, churn]
const every = groups.flatMap(group => Object.keys(group.rows))

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    mib: { type: 'string', default: '256' },
    'memory-mib': { type: 'string', default: '4096' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    markdown: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
})

const wholeNumber = (name: 'rounds' | 'mib' | 'memory-mib' | 'seed'): number => {
  const value = Number(values[name])
  if (!Number.isSafeInteger(value) || value < (name === 'seed' ? 0 : 1))
    throw new Error(`--${name} takes a whole number, not ${values[name]}`)
  return value
}

const settings: Settings = {
  rounds: wholeNumber('rounds'),
  mebibytes: wholeNumber('mib'),
  memoryMebibytes: wholeNumber('memory-mib'),
  seed: wholeNumber('seed'),
  say: line => console.error(line),
}
const asked = new Set(values.only?.split(',') ?? every)
for (const row of asked)
  if (!every.includes(row)) throw new Error(`there is no row ${row}; there are ${every.join(', ')}`)

async function measureGroup(group: Group): Promise<Figure[]> {
  const rows = Object.keys(group.rows).filter(row => asked.has(row))
  if (rows.length === 0) return []
  settings.say(rows.join(', '))
  const laboratory = new Laboratory()
  const leave = () => void laboratory.close().then(() => process.exit(130))
  process.once('SIGINT', leave).once('SIGTERM', leave)
  try {
    return await group.measure(laboratory, settings, asked)
  } catch (error) {
    settings.say(String(error instanceof Error ? error.stack : error))
    return rows.map(row => failed(row, group.rows[row] as RowHead, error))
  } finally {
    process.off('SIGINT', leave).off('SIGTERM', leave)
    await laboratory.close()
  }
}

const figures: Figure[] = []
for (const group of groups) figures.push(...(await measureGroup(group)))
const machine = `${availableParallelism()} cores, Linux ${release()}, Node ${process.version}`
const terms = `${settings.mebibytes} MiB, medians of ${settings.rounds}, ${machine}, seed ${settings.seed}`
if (values.json !== undefined)
  writeFileSync(
    values.json,
    JSON.stringify({ at: new Date().toISOString(), machine, settings, figures }, undefined, 2),
  )
console.log(values.markdown ? `${terms}.\n\n${toMarkdown(figures)}` : `${terms}\n\n${toText(figures)}`)
process.exitCode = figures.some(({ verdict }) => verdict === 'FAILED') ? 1 : 0
