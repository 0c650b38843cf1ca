// The long column of what "reliable" means: each part runs a test again and again, every time with a seed of its own,
// or once for long. A part that fails stops there and says the seed that repeats it; the others still run.
// Usage: scripts/campaign [--only PART,…] [--seed N] [--smoke]      (--smoke: every part once, the long ones a minute)
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'

interface Part {
  readonly what: string
  readonly file: string
  readonly times: number
  readonly env?: Readonly<Record<string, string>>
}

const parts: Readonly<Record<string, Part>> = {
  kills: { what: 'S1: 200 kills of a storing process', file: 'test/store/kill.test.ts', times: 4 },
  daemons: {
    what: 'S1: 200 kills of publishing and fetching daemons; 20 nodes under churn',
    file: 'test/daemon/churn.test.ts',
    times: 4,
    env: { CATALOG_KILLS: '50', CATALOG_CHURN_NODES: '20' },
  },
  'power-cuts': { what: 'S2: 200 power cuts', file: 'test/store/power-cut.test.ts', times: 8 },
  damages: { what: 'S5: 2,000 damaged files', file: 'test/flows/check.test.ts', times: 10 },
  collect: {
    what: 'S6: 200 kills of a collecting process',
    file: 'test/flows/collect-kill.test.ts',
    times: 10,
  },
  interleavings: {
    what: 'S6: 20,000 interleavings with collection',
    file: 'test/flows/collect.test.ts',
    times: 4,
    env: { CATALOG_INTERLEAVINGS: '5000' },
  },
  signatures: {
    what: 'C1, C3: every known answer, 100,000 mutants of each certificate format, both verifiers of Falcon compared',
    file: 'test/trust/',
    times: 1,
    env: { CATALOG_CAMPAIGN: '1' },
  },
  repository: {
    what: 'T1, T2, C2: hostile repositories, 100 publishers that contradict themselves, 100,000 changed records',
    file: 'test/hostile/',
    times: 2,
    env: { CATALOG_SCENARIOS: '50', CATALOG_MUTANTS: '50000' },
  },
  frames: {
    what: 'N1: 1,000,000 malformed frames',
    file: 'test/distribution/malformed-frames.test.ts',
    times: 100,
  },
  unrest: {
    what: 'N6: 30 % of the nodes killed every 10 s, 30 min',
    file: 'test/campaign/unrest.campaign.ts',
    times: 1,
    env: { CATALOG_MINUTES: '30' },
  },
  steady: {
    what: 'L2: steady load, 8 h',
    file: 'test/campaign/steady.campaign.ts',
    times: 1,
    env: { CATALOG_MINUTES: '480' },
  },
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 30)) },
    smoke: { type: 'boolean', default: false },
  },
})
const names = values.only?.split(',') ?? Object.keys(parts)
const results = names.map(name => {
  const part = parts[name]
  if (part === undefined)
    throw new Error(`there is no part ${name}; there are ${Object.keys(parts).join(', ')}`)
  return `${run(name, part) ? '✓' : '✗'} ${name}: ${part.what}`
})
console.log(results.join('\n'))
process.exitCode = results.some(line => line.startsWith('✗')) ? 1 : 0

function run(name: string, part: Part): boolean {
  if (!existsSync(part.file)) throw new Error(`${part.file} of the part ${name} is not there`)
  const times = values.smoke ? 1 : part.times
  for (let at = 0; at < times; at++) {
    const seed = String(Number(values.seed) + at)
    console.log(`${name} ${at + 1} of ${times}, CATALOG_SEED=${seed}`)
    const campaign = part.file.endsWith('.campaign.ts')
      ? ['--config', 'test/campaign/vitest.config.ts', '--root', '.']
      : []
    const { status } = spawnSync('vitest', ['run', ...campaign, part.file], {
      stdio: 'inherit',
      env: { ...process.env, CATALOG_SEED: seed, ...(values.smoke ? { CATALOG_MINUTES: '1' } : part.env) },
    })
    if (status === 0) continue
    console.log(`${name} failed; CATALOG_SEED=${seed} repeats it`)
    return false
  }
  return true
}
