// Other systems, measured beside us on the same file in the same run: each as a seeder and a way to time one fetch.
// They run in a network namespace that has only a loopback, so that none talks to its public network.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, createReadStream, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { firstLine, kept, type Laboratory } from './laboratory.ts'
import { type Namespace, namespacesMissing } from './namespace.ts'

const run = promisify(execFile)
const program = (name: string) => fileURLToPath(new URL(`./peers/${name}`, import.meta.url))

/** A seeder that runs; each call fetches the file once in a fresh process, checks it, and gives the milliseconds. */
export type Peer = () => Promise<number>

/** Either a peer, or why there is none. */
type PeerOrReason = { readonly peer: Peer } | { readonly missing: string }

const heliaPackages = [
  'helia@^7.1.15',
  '@helia/unixfs@^8.0.5',
  'blockstore-fs@^4.0.1',
  'datastore-level@^13.0.1',
]

export async function heliaPeer(laboratory: Laboratory, file: string): Promise<PeerOrReason> {
  const namespace = await ownNetwork(laboratory)
  if ('missing' in namespace) return namespace
  const installed = await installHelia()
  if (installed !== undefined) return { missing: installed }
  // A module finds its libraries beside it.
  const helia = join(kept, 'helia', 'helia.mjs')
  copyFileSync(program('helia.mjs'), helia)
  const seeder = laboratory.spawn(
    process.execPath,
    [helia, 'seed', file, laboratory.path('helia-seed')],
    namespace,
  )
  const [address, cid] = (await firstLine(seeder, 'the Helia seeder')).split(' ') as [string, string]
  return {
    peer: async () => {
      const out = laboratory.path('helia-out')
      const store = laboratory.path('helia-store')
      const milliseconds = Number(
        await laboratory.line(process.execPath, [helia, 'get', address, cid, out, store], namespace),
      )
      await sameBytes(file, out)
      rmSync(out)
      rmSync(store, { recursive: true })
      return milliseconds
    },
  }
}

async function installHelia(): Promise<string | undefined> {
  const directory = join(kept, 'helia')
  if (existsSync(join(directory, 'installed'))) return undefined
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  try {
    const args = [
      'install',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      '--prefix',
      directory,
      ...heliaPackages,
    ]
    await run('npm', args, { timeout: 300_000 })
  } catch (error) {
    return `Helia could not be installed by npm: ${String(error).split('\n')[0]}`
  }
  writeFileSync(join(directory, 'installed'), '')
  return undefined
}

export async function libtorrentPeer(laboratory: Laboratory, file: string): Promise<PeerOrReason> {
  const namespace = await ownNetwork(laboratory)
  if ('missing' in namespace) return namespace
  const python = '/usr/bin/python3'
  try {
    await run(python, ['-c', 'import libtorrent'])
  } catch {
    return { missing: `${python} cannot import libtorrent: install python3-libtorrent` }
  }
  const torrent = laboratory.path('blob.torrent')
  const script = program('torrent.py')
  const seeder = laboratory.spawn(python, [script, 'seed', file, torrent], namespace)
  const port = await firstLine(seeder, 'the libtorrent seeder')
  return {
    peer: async () => {
      const out = laboratory.path('libtorrent-out')
      const milliseconds = Number(
        await laboratory.line(python, [script, 'get', torrent, port, out], namespace),
      )
      await sameBytes(file, join(out, basename(file)))
      rmSync(out, { recursive: true })
      return milliseconds
    },
  }
}

async function ownNetwork(laboratory: Laboratory): Promise<Namespace | { readonly missing: string }> {
  const missing = await namespacesMissing()
  return missing === undefined ? laboratory.namespace() : { missing }
}

async function sameBytes(left: string, right: string): Promise<void> {
  const digest = async (path: string) => {
    const hash = createHash('sha256')
    await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash)
    return hash.digest('hex')
  }
  if ((await digest(left)) !== (await digest(right))) throw new Error(`${right} is not what was seeded`)
}
