// Rows `memory-sender`, `memory-receiver`: resident memory of both daemons while one package of 4 GiB moves between
// them: the kernel's own high-water mark (VmHWM), begun anew when the move begins, and samples for the course of it.
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { type Figure, median, type Settings, skipped } from '../figures.ts'
import type { Laboratory } from '../laboratory.ts'

export const rows = {
  'memory-sender': { what: "sender's resident memory while moving a large package", wanted: '< 300 MiB' },
  'memory-receiver': { what: "receiver's resident memory while moving a large package", wanted: '< 300 MiB' },
}

const mebibyte = 1024 * 1024
const mostMebibytes = 300
const sampleMs = 100

export async function measure(
  laboratory: Laboratory,
  settings: Settings,
  asked: ReadonlySet<string>,
): Promise<Figure[]> {
  const missing = cannotMeasure(settings.memoryMebibytes)
  const names = (['memory-sender', 'memory-receiver'] as const).filter(row => asked.has(row))
  if (missing !== undefined) return names.map(row => skipped(row, rows[row], missing))
  const sender = await laboratory.node('sender')
  const receiver = await laboratory.node('receiver', { bootstrap: [sender] })
  const path = laboratory.package('huge', settings.memoryMebibytes)
  const { id } = await sender.publish(path)
  rmSync(path, { recursive: true })
  await receiver.knows(id)
  const watched = { 'memory-sender': watch(sender.pid), 'memory-receiver': watch(receiver.pid) }
  try {
    const { wallMilliseconds } = await receiver.fetch(id)
    settings.say(`  ${settings.memoryMebibytes} MiB moved in ${(wallMilliseconds / 1000).toFixed(1)} s`)
  } finally {
    for (const { stop } of Object.values(watched)) stop()
  }
  return names.map(row => {
    const { samples, peak } = watched[row]
    return {
      row,
      what: rows[row].what,
      ours: `${peak().toFixed(0)} MiB at most, median ${median(samples).toFixed(0)}`,
      reference: `${settings.memoryMebibytes} MiB moved`,
      wanted: rows[row].wanted,
      verdict: peak() < mostMebibytes ? 'yes' : 'NO',
      samples: { [`MiB, every ${sampleMs} ms`]: samples },
    }
  })
}

function cannotMeasure(mebibytes: number): string | undefined {
  if (process.platform !== 'linux') return 'resident memory is read from /proc, which is Linux only'
  const { bavail, bsize } = statfsSync(tmpdir())
  // The package, and a copy in each store.
  const needed = 3 * mebibytes + 1024
  const free = Math.floor((bavail * bsize) / mebibyte)
  return free < needed ? `needs ${needed} MiB in ${tmpdir()}, which has ${free}` : undefined
}

function watch(pid: number) {
  const samples: number[] = []
  const field = (name: 'VmRSS' | 'VmHWM') => {
    const kibibytes = readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`${name}:\\s*(\\d+)`))?.[1]
    return Number(kibibytes) / 1024
  }
  // proc(5): writing 5 sets the high-water mark to what is resident now.
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  let peak = 0
  const sample = () => {
    samples.push(field('VmRSS'))
    peak = field('VmHWM')
  }
  sample()
  const timer = setInterval(sample, sampleMs)
  return {
    samples,
    peak: () => peak,
    stop: () => {
      sample()
      clearInterval(timer)
    },
  }
}
