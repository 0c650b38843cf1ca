// Rows `fetch`, `helia`, `libtorrent`: one package from one provider over loopback, disk to disk, verified. Ours is
// timed from the request to durable (synced) in the receiver's store; the peers to a file that need not be synced.
// Row `many`: the same for a package of 1,000 files of 4 KiB against one file of the same 4 MB.
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Figure,
  failed,
  inTurn,
  mebibytesPerSecond,
  type Series,
  type Settings,
  skipped,
  speed,
  timed,
} from '../figures.ts'
import { type BenchNode, describePackage, type Laboratory } from '../laboratory.ts'
import { heliaPeer, libtorrentPeer } from '../peers.ts'
import { rawStreamTime } from './stream.ts'

export const rows = {
  fetch: {
    what: 'fetch, one provider / slower of raw stream and write + fsync',
    wanted: '≥ 0.8',
    atLeast: 0.8,
  },
  helia: { what: 'fetch, one provider / Helia', wanted: '≥ 6', atLeast: 6 },
  libtorrent: { what: 'fetch, one provider / libtorrent', wanted: '≥ 1.0', atLeast: 1 },
  many: { what: '1,000 files of 4 KiB / one file of 4 MB, to the store', wanted: '≥ 0.5', atLeast: 0.5 },
}

const peers = { helia: heliaPeer, libtorrent: libtorrentPeer }

export async function measure(
  laboratory: Laboratory,
  settings: Settings,
  asked: ReadonlySet<string>,
): Promise<Figure[]> {
  const provider = await laboratory.node('provider')
  const receiver = await laboratory.node('receiver', { bootstrap: [provider] })
  const figures: Figure[] = []
  if (['fetch', 'helia', 'libtorrent'].some(row => asked.has(row)))
    figures.push(...(await large(laboratory, settings, asked, provider, receiver)))
  if (asked.has('many')) figures.push(await many(laboratory, settings, provider, receiver))
  return figures
}

/** Fetches by id and forgets it again; every byte came from a provider. */
export async function fetchTime(receiver: BenchNode, id: string): Promise<number> {
  const result = await receiver.fetch(id)
  if (result.bytesTransferred < result.bytes)
    throw new Error(`only ${result.bytesTransferred} of ${result.bytes} bytes were transferred`)
  await receiver.client.remove(id)
  return result.wallMilliseconds
}

async function large(
  laboratory: Laboratory,
  settings: Settings,
  asked: ReadonlySet<string>,
  provider: BenchNode,
  receiver: BenchNode,
): Promise<Figure[]> {
  const { mebibytes } = settings
  const path = laboratory.package('large', mebibytes)
  const file = join(path, 'blob')
  // A version for each round: one that was removed here is unknown here, and its search would be timed too.
  const ids: string[] = []
  for (let round = 0; round < settings.rounds; round++) {
    describePackage(path, 'large', `1.0.${round}`)
    const { id } = await provider.publish(path)
    await receiver.knows(id)
    ids.push(id)
  }
  const measure = (round: number) => fetchTime(receiver, ids[round] as string)
  const series: Series[] = [{ name: 'fetch', measure }]
  if (asked.has('fetch')) {
    const bytes = readFileSync(file)
    const copy = laboratory.path('copy')
    series.push({ name: 'raw stream', measure: () => rawStreamTime(laboratory, mebibytes) })
    series.push({ name: 'write + fsync', measure: () => timed(() => writeAndSync(bytes, copy)) })
  }
  const absent: Record<string, Figure> = {}
  for (const [name, start] of Object.entries(peers)) {
    if (!asked.has(name)) continue
    const row = name as keyof typeof peers
    try {
      const found = await start(laboratory, file)
      if ('peer' in found) series.push({ name, measure: found.peer })
      else absent[name] = skipped(name, rows[row], found.missing)
    } catch (error) {
      absent[name] = failed(name, rows[row], error)
    }
  }
  const samples = await inTurn(settings, series)
  const show = (milliseconds: number) => mebibytesPerSecond(mebibytes, milliseconds)
  const figures: Figure[] = []
  if (asked.has('fetch'))
    figures.push(speed('fetch', rows.fetch, samples, 'fetch', ['raw stream', 'write + fsync'], show))
  for (const name of ['helia', 'libtorrent'] as const) {
    if (!asked.has(name)) continue
    figures.push(absent[name] ?? speed(name, rows[name], samples, 'fetch', [name], show))
  }
  return figures
}

function writeAndSync(bytes: Uint8Array, path: string): void {
  rmSync(path, { force: true })
  const file = openSync(path, 'w')
  const piece = 1024 * 1024
  for (let offset = 0; offset < bytes.byteLength; offset += piece)
    writeSync(file, bytes.subarray(offset, offset + piece))
  fsyncSync(file)
  closeSync(file)
}

async function many(
  laboratory: Laboratory,
  settings: Settings,
  provider: BenchNode,
  receiver: BenchNode,
): Promise<Figure> {
  const files = Array.from({ length: 1000 }, (_, at) => [`d${at % 20}/f${at}`, randomBytes(4096)] as const)
  const small = await provider.publish(laboratory.package('many', Object.fromEntries(files)))
  const one = await provider.publish(laboratory.package('one', { blob: randomBytes(4096 * 1000) }))
  await receiver.knows(small.id)
  await receiver.knows(one.id)
  const samples = await inTurn(settings, [
    { name: 'many files', measure: () => fetchTime(receiver, small.id) },
    { name: 'one file', measure: () => fetchTime(receiver, one.id) },
  ])
  return speed('many', rows.many, samples, 'many files', ['one file'], ms => `${ms.toFixed(0)} ms`)
}
