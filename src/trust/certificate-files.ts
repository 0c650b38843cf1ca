// The certificates of a home on disk: its own chains and the network's first root. Nothing in them is secret, and
// nothing is believed because it lies here: the trust chain proves it at every start.
//
//   chain file = canonical CBOR { v: 1, type: "catalog/chain", chain: [certificate bytes], leaf first }
import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { certificateLimits } from './certificate.ts'
import { decodeStrictly } from './document.ts'
import { Fields } from './fields.ts'
import { readPrivateFile, replacePrivateFile, syncDirectory } from './private-file.ts'
import { rootLimits } from './root.ts'

export type Chain = readonly Uint8Array[]

/** Durable when it resolves; the old chain or the new one is there, whatever happens. */
export async function saveChain(path: string, chain: Chain): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await replacePrivateFile(path, encodeCbor({ v: 1, type: 'catalog/chain', chain }))
}

/** Undefined where there is no file. @throws CatalogError `invalid-config` */
export async function loadChain(path: string): Promise<Chain | undefined> {
  const bytes = await read(path, certificateLimits.maxChainBytes + 1024, 'The certificates of this node')
  if (bytes === undefined) return undefined
  try {
    const what = 'The file'
    const fields = new Fields(decodeStrictly(bytes, bytes.byteLength, what), ['v', 'type', 'chain'], what)
    fields.version(1)
    if (fields.text('type', 40) !== 'catalog/chain') throw fields.refuse('it holds no certificates')
    return fields.list('chain', certificateLimits.maxChain).map(one => {
      if (!(one instanceof Uint8Array)) throw fields.refuse('a certificate is not bytes')
      return one
    })
  } catch (error) {
    throw damaged(path, error as Error)
  }
}

/** The chains in a directory of files, by file name. */
export async function loadChains(directory: string): Promise<Chain[]> {
  const names = await readdir(directory).catch(() => [])
  const chains = await Promise.all(
    names.filter(name => name.endsWith('.chain')).map(name => loadChain(join(directory, name))),
  )
  return chains.filter(chain => chain !== undefined)
}

export async function saveFirstRoot(path: string, root: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await replacePrivateFile(path, root)
}

export const loadFirstRoot = (path: string): Promise<Uint8Array | undefined> =>
  read(path, rootLimits.maxBytes, "The network's root document")

/** Roots and revocation lists that came with the certificates, until the daemon takes them over. */
export async function saveNotices(directory: string, notices: readonly Uint8Array[]): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  for (const [at, bytes] of notices.entries())
    await replacePrivateFile(join(directory, `${String(at).padStart(4, '0')}.notice`), bytes)
}

export async function loadNotices(directory: string): Promise<Uint8Array[]> {
  const names = (await readdir(directory).catch(() => [])).filter(name => name.endsWith('.notice')).sort()
  const notices = await Promise.all(names.map(name => read(join(directory, name), 128 * 1024, 'A notice')))
  return notices.filter(bytes => bytes !== undefined)
}

/** After they are durable elsewhere. */
export async function dropNotices(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  await syncDirectory(dirname(directory))
}

const read = (path: string, maxBytes: number, what: string): Promise<Uint8Array | undefined> =>
  readPrivateFile(path, { what, maxBytes, followLinks: false })

const damaged = (path: string, error: Error) =>
  new CatalogError(
    'invalid-config',
    `The certificates at ${path} cannot be used: ${error.message.replace(/\.$/, '')}. Restore the file from a backup, or join the network again.`,
    { path },
    error,
  )
