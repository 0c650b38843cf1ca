// Bytes that mean what they should and are not the one form in which it may be written.
import { encodeStatement } from '../../../src/assets/release.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { signDocument } from '../../../src/trust/document.ts'
import { signingMessage } from '../../../src/trust/envelope.ts'
import { revocations, signers } from '../../trust/test-network.ts'
import { freshnessOf, nextHead, seal, sealBytes } from '../attacker.ts'
import { type Case, record } from '../case.ts'
import { publisherId } from '../node.ts'
import { publisher } from '../people.ts'

/** A statement or envelope in bytes that mean the same and are not canonical, correctly signed. */
const bytesOf = (
  name: string,
  spoil: (bytes: Buffer) => Buffer,
  where: 'envelope' | 'statement' = 'statement',
): Case =>
  record(
    name,
    'the key of the publisher',
    'bad-record',
    async (world, evil) => {
      const statement = Buffer.from(encodeStatement(nextHead(world)))
      const signer = publisher(world)
      if (!evil) return sealBytes('head', statement, signer)
      if (where === 'statement') return sealBytes('head', spoil(statement), signer)
      const message = signingMessage('head', signer.publicKeys, publisherId, statement, signer.chain)
      const envelope = {
        v: 1,
        statement,
        signatures: await signer.sign(message),
        chain: signer.chain,
        proofs: [],
      }
      return spoil(Buffer.from(encodeCbor(envelope)))
    },
    { ways: ['sync', 'dht'], says: /canonical|DAG-CBOR|unknown field|neither a release/ },
  )

/** Writes the map's number of entries anew, and one entry more. */
const withEntry = (bytes: Buffer, entry: Buffer): Buffer =>
  Buffer.concat([Buffer.from([(bytes[0] as number) + 1]), bytes.subarray(1), entry])

const entry = (key: string, value: unknown): Buffer => Buffer.concat([encodeCbor(key), encodeCbor(value)])

export const bytes: readonly Case[] = [
  bytesOf('a field that is there twice', whole =>
    withEntry(whole, entry('expiresAt', Number.MAX_SAFE_INTEGER)),
  ),
  bytesOf(
    'a field that is there twice, in the envelope',
    whole => withEntry(whole, entry('proofs', [])),
    'envelope',
  ),
  bytesOf('fields in another order', whole => {
    const at = whole.indexOf(entry('v', 1))
    const version = whole.subarray(at, at + 3)
    return Buffer.concat([whole.subarray(0, at), whole.subarray(at + 3), version])
  }),
  bytesOf('a number in a longer form', whole => {
    const at = whole.indexOf(entry('v', 1))
    return Buffer.concat([whole.subarray(0, at + 2), Buffer.from([0x18, 0x01]), whole.subarray(at + 3)])
  }),
  bytesOf('a map of no fixed length', whole =>
    Buffer.concat([Buffer.from([0xbf]), whole.subarray(1), Buffer.from([0xff])]),
  ),
  bytesOf('a tag before the value', whole => Buffer.concat([Buffer.from([0xd9, 0xd9, 0xf7]), whole])),
  bytesOf('bytes after the end', whole => Buffer.concat([whole, Buffer.from([0])])),
  bytesOf(
    'bytes after the end of the envelope',
    whole => Buffer.concat([whole, Buffer.from([0])]),
    'envelope',
  ),
  bytesOf('bytes that are missing at the end', whole => whole.subarray(0, -1), 'envelope'),
  bytesOf('a list where a map belongs', whole => Buffer.concat([Buffer.from([0x81]), whole])),
  record(
    'a text that is not UTF-8',
    'the key of the publisher',
    'bad-record',
    async (world, evil) => {
      const marker = 'deprecated soon'
      const statement = Buffer.from(encodeStatement(nextHead(world, { deprecated: marker })))
      if (evil) statement[statement.indexOf(marker)] = 0xff
      return sealBytes('head', statement, publisher(world))
    },
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a head as a freshness statement with all of its fields',
    'the right to freshen',
    'bad-record',
    async (world, evil) => {
      const fresh = { v: 1, ...freshnessOf(world, world.heads[1]) }
      const statement = encodeCbor(evil ? { ...fresh, versions: [] } : fresh)
      return sealBytes('freshness', statement, publisher(world))
    },
    { says: /unknown field "versions"/ },
  ),
  record(
    'a statement of a kind that nobody knows',
    'the key of the publisher',
    'bad-record',
    async (world, evil) => {
      const statement = { v: 1, ...nextHead(world), ...(evil ? { type: 'command' } : {}) }
      return sealBytes('head', encodeCbor(statement), publisher(world))
    },
    { ways: ['sync', 'dht'], says: /neither a release nor a head/ },
  ),
  record(
    'a statement of another version',
    'the key of the publisher',
    'bad-record',
    async (world, evil) =>
      sealBytes('head', encodeCbor({ ...nextHead(world), v: evil ? 2 : 1 }), publisher(world)),
    { ways: ['sync', 'dht'], says: /version 2/ },
  ),
  record(
    'a notice of a kind that nobody knows',
    'a connection',
    'certificate-malformed',
    async (world, evil) => {
      const document = await signDocument('catalog/revocations/v1', encodeCbor({ v: 1, type: 'command' }), [
        signers.authority,
      ])
      return evil
        ? document.bytes
        : (await revocations(world.authority, [world.authority], { sequence: 2 })).bytes
    },
  ),
  record('a record that is no map', 'a connection', 'bad-record', async (world, evil) =>
    evil ? encodeCbor(['head']) : seal(nextHead(world), publisher(world)),
  ),
  record('no bytes at all', 'a connection', 'bad-record', async (world, evil) =>
    evil ? new Uint8Array(0) : seal(nextHead(world), publisher(world)),
  ),
]
