// Thresholds and rotation of the root: who may decide for the network, and who no longer.
import { decodeCbor, encodeCbor } from '../../../src/base/cbor.ts'
import { encodeDocument, fingerprintOf, type SignedDocument } from '../../../src/trust/document.ts'
import type { PublicKeys } from '../../../src/trust/fields.ts'
import { publisherFingerprint } from '../../../src/trust/keys.ts'
import type { RootBody } from '../../../src/trust/root.ts'
import {
  authority,
  goldenRoot,
  type Holder,
  keysOf,
  nextRoot,
  publisherCertificate,
} from '../../trust/test-network.ts'
import { nextHead, seal } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { signerOf } from '../node.ts'
import { underAuthority } from '../people.ts'
import { allRights } from '../world.ts'

const needed = ['root-1', 'root-2'] as const
/** A fingerprint of nothing. */
const keyless = fingerprintOf(Buffer.from('nothing'))
const newKeys = { keys: [keysOf('root-4'), keysOf('root-5')], threshold: 2 }

/** A second version that is not as it should be; the honest form has all signatures that it needs. */
const second = (
  name: string,
  code: Case['code'],
  {
    changes = {},
    by,
    has = 'some of the root keys',
    honestly = changes,
  }: {
    readonly changes?: Partial<RootBody>
    readonly by: readonly Holder[]
    readonly has?: string
    readonly honestly?: Partial<RootBody>
  },
  says?: RegExp,
): Case =>
  record(
    name,
    has,
    code,
    async (_, evil) => {
      const all = [...needed, ...(honestly.keys === newKeys.keys ? (['root-4', 'root-5'] as const) : [])]
      return evil
        ? (await nextRoot(goldenRoot, changes, by)).bytes
        : (await nextRoot(goldenRoot, honestly, all)).bytes
    },
    { ways: ['sync', 'dht'], ...(says === undefined ? {} : { says }) },
  )

/** A second version with its bytes changed after it was signed. */
const spoilt = (
  name: string,
  code: Case['code'],
  spoil: (root: SignedDocument) => Uint8Array,
  says?: RegExp,
): Case =>
  record(
    name,
    'one root key',
    code,
    async (_, evil) => {
      const root = await nextRoot(goldenRoot, {}, needed)
      return evil ? spoil(root) : root.bytes
    },
    says === undefined ? {} : { says },
  )

const rewritten = (root: SignedDocument, changes: Record<string, unknown>): Uint8Array => {
  const body = decodeCbor(root.body, 1024 * 1024, 'A body') as Record<string, unknown>
  return encodeDocument(encodeCbor({ ...body, ...changes }), root.signatures).bytes
}

/** A head under an authority that root keys issued: two of three, or whoever. */
const byAuthorityOf = (name: string, by: readonly Holder[], code: Case['code']): Case =>
  record(
    name,
    'one root key',
    code,
    async (world, evil) => seal(nextHead(world), (await underAuthority({}, evil ? by : needed)).signer),
    { ways: ['sync', 'dht'] },
  )

export const thresholds: readonly Case[] = [
  second('a root that too few have signed', 'root-threshold', { by: ['root-1'] }, /carries 1 signatures/),
  second(
    'a root with other keys, signed by the old ones alone',
    'root-threshold',
    { changes: newKeys, by: needed },
    /its own keys/,
  ),
  second(
    'a root with other keys, signed by the new ones alone',
    'root-threshold',
    { changes: newKeys, by: ['root-4', 'root-5'], has: 'keys of its own' },
    /the root before it/,
  ),
  second(
    'a root that a stranger has signed too',
    'root-threshold',
    { by: [...needed, 'stranger'], has: 'a true root, and a key of its own' },
    /no key of/,
  ),
  second(
    'a root that follows another',
    'root-not-trusted',
    { changes: { previous: keyless }, by: needed, honestly: {} },
    /does not follow/,
  ),
  second(
    'a root that renames the network',
    'root-not-trusted',
    { changes: { network: 'elsewhere' }, by: needed, honestly: {} },
    /another network/,
  ),
  spoilt(
    'a root that one key has signed twice',
    'certificate-malformed',
    root => {
      const [one] = root.signatures
      return encodeCbor({ v: 1, body: root.body, signatures: [one, one] })
    },
    /each key once/,
  ),
  spoilt(
    'a root that gives one key twice',
    'certificate-malformed',
    root => rewritten(root, { keys: [keysOf('root-1'), keysOf('root-1')] }),
    /ascending order, each once/,
  ),
  spoilt(
    'a root in which two keys share a half',
    'certificate-malformed',
    root => {
      const [one, two] = goldenRoot.keys as [PublicKeys, PublicKeys]
      const mixed = { ed25519: one.ed25519, falcon: two.falcon }
      const names = (keys: PublicKeys) => publisherFingerprint(keys.ed25519, keys.falcon)
      const keys = [one, mixed].sort((a, b) => (names(a) < names(b) ? -1 : 1))
      return rewritten(root, { keys })
    },
    /share their ed25519 part/,
  ),
  spoilt(
    'a root that nobody need sign',
    'certificate-malformed',
    root => rewritten(root, { threshold: 0 }),
    /threshold is 0/,
  ),
  spoilt(
    'a root that was changed afterwards',
    'root-not-trusted',
    root => rewritten(root, { revoked: [keyless] }),
    /does not hold/,
  ),
  byAuthorityOf('an authority that too few root keys have signed', ['root-1'], 'root-threshold'),
  byAuthorityOf('an authority that a stranger has signed too', [...needed, 'stranger'], 'root-threshold'),
]

export const rotation: readonly Case[] = [
  {
    name: 'the third root without the second',
    has: 'the newest root and what it issued; it keeps back the one between',
    code: 'root-threshold',
    async play(world, evil) {
      const two = await nextRoot(goldenRoot, newKeys, [...needed, 'root-4', 'root-5'])
      const three = await nextRoot(two, {}, ['root-4', 'root-5'])
      const { signer } = await underAuthority({}, ['root-4', 'root-5'])
      const head = await seal(nextHead(world), signer)
      return { shows: [...(evil ? [] : [two.bytes]), three.bytes, head] }
    },
  },
  {
    name: 'an authority that the newest root does not carry on',
    has: 'a certificate by keys that have been replaced',
    code: 'root-threshold',
    says: /0 signatures of the network's root|no key of/,
    async play(world, evil) {
      const kept = await authority({ subject: keysOf('region') })
      const carried = [world.authority.fingerprint, ...(evil ? [] : [kept.fingerprint])]
      const two = await nextRoot(goldenRoot, { ...newKeys, carried }, [...needed, 'root-4', 'root-5'])
      const certificate = await publisherCertificate(kept, { rights: allRights }, ['region'])
      const head = await seal(nextHead(world), signerOf('publisher', [certificate, kept]))
      return { shows: [two.bytes, head] }
    },
  },
  last(
    'a root by keys that the last one replaced',
    'two old root keys',
    'root-threshold',
    async (_, evil) => {
      const two = await nextRoot(goldenRoot, newKeys, [...needed, 'root-4', 'root-5'])
      const three = await nextRoot(two, {}, evil ? needed : ['root-4', 'root-5'])
      return [two.bytes, three.bytes]
    },
    {
      // The authority was not carried on: the network makes the next root.
      async recover(world) {
        const two = await nextRoot(goldenRoot, newKeys, [...needed, 'root-4', 'root-5'])
        const carried = [world.authority.fingerprint]
        const three = await nextRoot(two, { carried }, ['root-4', 'root-5'])
        for (const node of [world.repository, world.client])
          for (const { bytes } of [two, three]) await node.accept(bytes).catch(() => undefined)
      },
    },
  ),
]
