// Who this node is on the network: one Ed25519 libp2p key in a 0600 file, made once. It owns the file, not the home.
import { randomBytes } from 'node:crypto'
import { type FileHandle, link, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { CatalogError } from '../base/errors.ts'
import type { PeerText } from './host.ts'

/** A libp2p private key in its protobuf form (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys). */
export type NodeKey = Uint8Array

/** An Ed25519 key is 68 bytes here; anything much longer is not one. */
const maxKeyBytes = 256

export const createNodeKey = async (): Promise<NodeKey> =>
  privateKeyToProtobuf(await generateKeyPair('Ed25519'))

/** The peer id of the node that holds the key. @throws CatalogError `invalid-config` when it is no Ed25519 key. */
export function peerOfNodeKey(key: NodeKey): PeerText {
  return peerIdFromPrivateKey(parseNodeKey(key, 'The node key')).toString()
}

export function parseNodeKey(key: NodeKey, what: string) {
  try {
    const parsed = privateKeyFromProtobuf(key)
    if (parsed.type === 'Ed25519') return parsed
  } catch {
    // Told below, with what to do.
  }
  throw new CatalogError(
    'invalid-config',
    `${what} is not an Ed25519 key in libp2p's protobuf form. Restore it from a backup, or delete it to become a new node.`,
  )
}

/**
 * Reads the key, or makes one where the file does not exist. A new file appears whole or not at all.
 * @throws CatalogError `forbidden` when others may read the file, `invalid-config` when it is not a key.
 */
export async function loadOrCreateNodeKey(path: string): Promise<NodeKey> {
  const existing = await readKey(path)
  if (existing !== undefined) return existing
  const key = await createNodeKey()
  try {
    await writeKey(path, key)
    return key
  } catch (error) {
    // Another process was first: its key is the node's.
    const winner = (error as NodeJS.ErrnoException).code === 'EEXIST' ? await readKey(path) : undefined
    if (winner === undefined) throw error
    return winner
  }
}

async function readKey(path: string): Promise<NodeKey | undefined> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const { mode, size } = await file.stat()
    if ((mode & 0o077) !== 0)
      throw new CatalogError(
        'forbidden',
        `The node key ${path} can be read by others (mode ${(mode & 0o777).toString(8)}). Run: chmod 600 ${path}`,
      )
    const bytes = new Uint8Array(Math.min(size, maxKeyBytes + 1))
    const { bytesRead } = await file.read(bytes, 0, bytes.byteLength, 0)
    parseNodeKey(bytes.subarray(0, bytesRead), `The node key ${path}`)
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** Written beside, synced, then linked into place: `link` refuses to replace a key that another process made. */
async function writeKey(path: string, key: NodeKey): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(key)
    await file.sync()
    await link(temporary, path)
  } finally {
    await file.close()
    await unlink(temporary)
  }
  const directory = await open(dirname(path), 'r')
  await directory.sync().finally(() => directory.close())
}
