// Row `publish`: read, cut, hash, store, sign and catalogue one large file, against copying it with one fsync and
// hashing it with native BLAKE3 and SHA-256. A new file each round: nothing of it is in the store.
import { createHash } from 'node:crypto'
import { closeSync, copyFileSync, fsyncSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { blake3 } from '../../src/base/hash.ts'
import { type Figure, inTurn, mebibytesPerSecond, type Settings, speed, timed } from '../figures.ts'
import type { Laboratory } from '../laboratory.ts'

export const rows = {
  publish: { what: 'publish / cp + fsync + native hashing', wanted: '≥ 0.5', atLeast: 0.5 },
}

export async function measure(laboratory: Laboratory, settings: Settings): Promise<Figure[]> {
  const { mebibytes } = settings
  const node = await laboratory.node('publisher')
  const copy = laboratory.path('copy')
  let path = ''
  const samples = await inTurn(settings, [
    {
      name: 'cp + fsync + hash',
      measure: round => {
        path = laboratory.package(`large-${round}`, mebibytes)
        return timed(() => {
          copyAndSync(join(path, 'blob'), copy)
          const bytes = readFileSync(join(path, 'blob'))
          return [blake3(bytes), createHash('sha256').update(bytes).digest()]
        })
      },
    },
    {
      name: 'publish',
      measure: async () => {
        const started = performance.now()
        const { id } = await node.publish(path)
        const milliseconds = performance.now() - started
        await node.client.remove(id)
        rmSync(path, { recursive: true })
        return milliseconds
      },
    },
  ])
  const show = (milliseconds: number) => mebibytesPerSecond(mebibytes, milliseconds)
  return [speed('publish', rows.publish, samples, 'publish', ['cp + fsync + hash'], show)]
}

function copyAndSync(from: string, to: string): void {
  rmSync(to, { force: true })
  copyFileSync(from, to)
  const file = openSync(to, 'r+')
  fsyncSync(file)
  closeSync(file)
}
