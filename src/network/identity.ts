// Who this node is on the network: one Ed25519 libp2p key, made once. How its file is kept and encrypted belongs to
// whoever hands the file over.
import {
  generateKeyPair,
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
  publicKeyFromRaw,
} from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey, peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { CatalogError } from '../base/errors.ts'
import type { PeerText } from './host.ts'

/** A libp2p private key in its protobuf form (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys). */
export type NodeKey = Uint8Array

/** The file of a node key. A new file appears whole or not at all. */
export interface NodeKeyFile {
  readonly path: string
  /** The key; undefined where there is no file. */
  read(): Promise<Uint8Array | undefined>
  /** Makes the file of the node that is called `name`; false, with nothing changed, where one is there. */
  create(key: NodeKey, name: PeerText): Promise<boolean>
}

export const createNodeKey = async (): Promise<NodeKey> =>
  privateKeyToProtobuf(await generateKeyPair('Ed25519'))

/** The key of an Ed25519 seed (RFC 8032), 32 bytes: one that was made elsewhere. */
export const nodeKeyOfSeed = async (seed: Uint8Array): Promise<NodeKey> =>
  privateKeyToProtobuf(await generateKeyPairFromSeed('Ed25519', seed))

/** The peer id of the node that holds the key. @throws CatalogError `invalid-config` when it is no Ed25519 key. */
export function peerOfNodeKey(key: NodeKey): PeerText {
  return peerIdFromPrivateKey(parseNodeKey(key, 'The node key')).toString()
}

/** The key's raw pair, 32 bytes each, for a certificate's signatures. */
export function rawNodeKey(key: NodeKey): { publicKey: Uint8Array; secretKey: Uint8Array } {
  const { raw, publicKey } = parseNodeKey(key, 'The node key')
  // libp2p keeps seed and public key together.
  return { publicKey: publicKey.raw.slice(), secretKey: raw.slice(0, 32) }
}

/** The Ed25519 key that a peer id is made of; undefined for another kind of peer. */
export function keyOfPeer(peer: PeerText): Uint8Array | undefined {
  try {
    const id = peerIdFromString(peer)
    return id.type === 'Ed25519' ? id.publicKey.raw : undefined
  } catch {
    return undefined
  }
}

/** The peer id of the node with this raw Ed25519 key. */
export const peerOfKey = (ed25519: Uint8Array): PeerText =>
  peerIdFromPublicKey(publicKeyFromRaw(ed25519)).toString()

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
 * Reads the key, or makes one where the file does not exist.
 * @throws CatalogError `invalid-config` when it is not a key, and what the file throws
 */
export async function loadOrCreateNodeKey(file: NodeKeyFile): Promise<NodeKey> {
  const existing = await readKey(file)
  if (existing !== undefined) return existing
  const key = await createNodeKey()
  if (await file.create(key, peerOfNodeKey(key))) return key
  // Another process was first: its key is the node's.
  return (await readKey(file)) ?? loadOrCreateNodeKey(file)
}

async function readKey(file: NodeKeyFile): Promise<NodeKey | undefined> {
  const key = await file.read()
  if (key !== undefined) parseNodeKey(key, `The node key ${file.path}`)
  return key
}
