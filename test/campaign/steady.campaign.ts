// L2: hours of the same work (publish, fetch, search, remove): memory does not climb and no handle is left open.
// CATALOG_MINUTES says how long; the slope is taken over the second half, once caches are full.
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { Laboratory, type TestNode, until } from '../daemon/harness.ts'

const laboratory = new Laboratory()
const minutes = Number(process.env['CATALOG_MINUTES'] ?? 5)
const mostMebibytesPerHour = 1
const sampleMs = 5_000

interface Sample {
  readonly hours: number
  readonly mebibytes: number
  readonly handles: number
}

describe(`steady load for ${minutes} min`, () => {
  it('memory and handles stay level', async context => {
    if (process.platform !== 'linux') context.skip('memory and handles are read from /proc')
    const alice = await laboratory.started('alice')
    const bob = await laboratory.started('bob', [alice])
    const begun = performance.now()
    const hours = () => (performance.now() - begun) / 3_600_000
    const samples = new Map<TestNode, Sample[]>([
      [alice, []],
      [bob, []],
    ])
    const timer = setInterval(() => {
      for (const [node, list] of samples) list.push({ hours: hours(), ...usage(node.pid) })
    }, sampleMs)
    try {
      for (let at = 0; hours() < minutes / 60; at++) {
        const name = `steady-${at % 50}`
        const path = await laboratory.package(name, `1.0.${at}`, { 'data.bin': randomBytes(2_000_000) })
        const { id } = await alice.client.publish({ path })
        await until('bob knows it', async () =>
          (await bob.client.releases(false)).some(release => release.id === id),
        )
        await bob.fetch(id)
        await bob.client.search({ query: 'steady' })
        for (const node of [bob, alice]) await node.client.remove(id)
        await rm(path, { recursive: true })
      }
    } finally {
      clearInterval(timer)
    }
    for (const [node, list] of samples) {
      const half = list.slice(Math.floor(list.length / 2))
      const memory = slope(half.map(({ hours: x, mebibytes: y }) => [x, y]))
      const handles = slope(half.map(({ hours: x, handles: y }) => [x, y]))
      console.log(
        `${node.home}: ${memory.toFixed(2)} MiB/h, ${handles.toFixed(2)} handles/h over ${half.length} samples, ` +
          `at most ${Math.max(...list.map(({ mebibytes }) => mebibytes)).toFixed(0)} MiB`,
      )
      // Garbage comes and goes by tens of MiB: only a run of an hour or more says anything of a slope.
      if (minutes < 60) continue
      expect(memory).toBeLessThan(mostMebibytesPerHour)
      expect(handles).toBeLessThan(1)
    }
  })
})

function usage(pid: number): Omit<Sample, 'hours'> {
  const kibibytes = readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s*(\d+)/)?.[1]
  return { mebibytes: Number(kibibytes) / 1024, handles: readdirSync(`/proc/${pid}/fd`).length }
}

/** Of the line through the points, by least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (pick: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length
  const [x, y] = [mean(([at]) => at), mean(([, value]) => value)]
  const covariance = mean(([at, value]) => (at - x) * (value - y))
  return covariance / mean(([at]) => (at - x) ** 2)
}
