// What a node with many known releases costs: the start of its catalogue, the first search (which builds the index),
// searches of each kind, memory, and the longest time that anything held up the node. Records are stored as a node
// stores them, in LevelDB; the measured process starts with them on disk. Usage: bench/search.ts [RELEASES] [VERSIONS]
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { silentLog } from '../src/base/log.ts'
import { Catalogue } from '../src/registry/catalogue.ts'
import { Search, type SearchRequest } from '../src/registry/search.ts'
import { LevelKeyValue } from '../src/store/level-key-value.ts'
import { release } from '../test/registry/records.ts'

const releases = Number(process.argv[2] ?? 100_000)
const versions = Number(process.argv[3] ?? 1)
const directory = process.argv[4]
const rounds = 100

/** The same numbers in every run (mulberry32). */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}

const next = random(7)
const syllables =
  'ba be bi bo bu ca co cu da de do fa fe fi ga go ka ki ko la le li lo ma me mi mo na ne no pa pe pi po ra re ri ro sa se si so ta te ti to va ve vi xa zo'.split(
    ' ',
  )
const word = (rank: number) => {
  const letters = random(rank + 1)
  return Array.from(
    { length: 2 + (rank % 3) },
    () => syllables[Math.floor(letters() * syllables.length)],
  ).join('')
}
const vocabulary = Array.from({ length: 20_000 }, (_, rank) => word(rank))
/** Few words are frequent, most are rare (Zipf). */
const anyWord = () => vocabulary[Math.floor(vocabulary.length ** next()) - 1] ?? (vocabulary[0] as string)
const text = (length: number) => Array.from({ length }, anyWord).join(' ')
const types = ['library', 'package', 'template', 'container']
const categories = ['computational', 'data-processing', 'storage', 'ai-model']

async function seed(): Promise<void> {
  const records = await LevelKeyValue.open({ directory: directory as string })
  const catalogue = new Catalogue({ records, log: silentLog })
  await catalogue.start()
  for (let done = 0; done < releases; ) {
    const group: Promise<unknown>[] = []
    for (let i = 0; i < 500 && done < releases; i++) {
      const name = `${text(1)}-${text(1)}-${Math.floor(done / versions)}`
      const fields = {
        name,
        publisher: `b-publisher-${Math.floor(done / 1000)}`,
        description: text(12),
        tags: [anyWord(), anyWord(), anyWord()],
        type: types[Math.floor(next() * 4)] as string,
        category: categories[Math.floor(next() * 4)] as string,
      }
      for (let version = 0; version < versions && done < releases; version++, done++)
        group.push(catalogue.addRelease(release({ ...fields, version: `1.${version}.0` })))
    }
    await Promise.all(group)
  }
  await catalogue.stop()
  await records.stop()
}

const mebibytes = () => {
  globalThis.gc?.()
  return Math.round(process.memoryUsage.rss() / 2 ** 20)
}

/** Its time and the longest block in it, in milliseconds. */
async function watched<T>(work: () => Promise<T>): Promise<{ ms: number; longestBlockMs: number }> {
  const blocks = monitorEventLoopDelay({ resolution: 1 })
  blocks.enable()
  await delay(20)
  blocks.reset()
  const began = performance.now()
  await work()
  const ms = performance.now() - began
  await delay(5)
  blocks.disable()
  return { ms: Math.round(ms * 10) / 10, longestBlockMs: Math.round(blocks.max / 1e5) / 10 }
}

async function measure(): Promise<void> {
  const rss = { empty: mebibytes(), started: 0, indexed: 0 }
  const records = await LevelKeyValue.open({ directory: directory as string })
  const catalogue = new Catalogue({ records, log: silentLog })
  const started = await watched(() => catalogue.start())
  rss.started = mebibytes()
  const search = new Search({ source: catalogue, log: silentLog })
  await search.start()
  const first = await watched(() => search.search({ query: 'nothing-has-this-name' }))
  rss.indexed = mebibytes()
  const kinds: Record<string, () => SearchRequest> = {
    'a frequent word': () => ({ query: vocabulary[Math.floor(next() * 5)] as string }),
    'a rare word': () => ({ query: vocabulary[10_000 + Math.floor(next() * 10_000)] as string }),
    'two words': () => ({ query: text(2) }),
    'three words, one filter': () => ({ query: text(3), type: types[Math.floor(next() * 4)] as string }),
    'one letter': () => ({ query: (syllables[Math.floor(next() * syllables.length)] as string).slice(0, 1) }),
    'an unfinished word': () => ({ query: anyWord().slice(0, 3) }),
    'a mistyped word': () => ({ query: anyWord().replace(/^(..)(.)/, '$1q$2') }),
    'words that none has together': () => ({ query: `${text(5)} zzzzz` }),
    'nothing but a tag': () => ({ query: '', tag: anyWord() }),
    everything: () => ({ query: '' }),
    'sixteen single letters': () => ({ query: [...'abcdefghijklmnop'].join(' ') }),
  }
  const rows: Record<string, unknown> = {}
  for (const [kind, request] of Object.entries(kinds)) {
    const times: number[] = []
    let results = 0
    const { longestBlockMs } = await watched(async () => {
      for (let round = 0; round < rounds; round++) {
        const wanted = request()
        const began = performance.now()
        results += (await search.search(wanted)).length
        times.push(performance.now() - began)
      }
    })
    times.sort((a, b) => a - b)
    const at = (part: number) => (times[Math.min(rounds - 1, Math.floor(part * rounds))] as number).toFixed(1)
    rows[kind] = { p50: at(0.5), p95: at(0.95), longestBlockMs, results: Math.round(results / rounds) }
  }
  const digests = await watched(async () => void catalogue.recordIds())
  console.log(
    `${releases} releases of ${Math.ceil(releases / versions)} packages; times in ms, memory in MiB`,
  )
  console.table({
    'start of the catalogue': started,
    'first search': first,
    'ids for reconciliation': digests,
  })
  console.table(rows)
  console.table({ 'resident memory': rss })
  await search.stop()
  await catalogue.stop()
  await records.stop()
}

if (directory === undefined) {
  const home = mkdtempSync(join(tmpdir(), 'catalog-bench-'))
  try {
    for (const step of ['seed', 'measure'])
      execFileSync(
        process.execPath,
        [
          '--expose-gc',
          fileURLToPath(import.meta.url),
          String(releases),
          String(versions),
          join(home, 'records'),
          step,
        ],
        { stdio: 'inherit' },
      )
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
} else await (process.argv[5] === 'seed' ? seed() : measure())
