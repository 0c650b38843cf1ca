// Chains of certificates: every kind of bad one is refused with its own code, and after each the honest one still holds.
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { decodeCbor, encodeCbor } from '../../src/base/cbor.ts'
import { type ErrorCode, isCatalogError } from '../../src/base/errors.ts'
import {
  type AuthorityGrant,
  type Certificate,
  decodeCertificate,
  decodeChain,
  encodeCertificateBody,
  issueCertificate,
  type NodeGrant,
  type PublisherGrant,
} from '../../src/trust/certificate.ts'
import { type ChainContext, checkChain, type Usage } from '../../src/trust/chain.ts'
import { type DocumentSignature, encodeDocument } from '../../src/trust/document.ts'
import { type Root, signRoot } from '../../src/trust/root.ts'
import { faultySignature } from '../../src/trust/signature-check.ts'
import {
  authority,
  type Changes,
  day,
  goldenRoot,
  type Holder,
  idOf,
  keysOf,
  network,
  nextRoot,
  nodeCertificate,
  now,
  publisherCertificate,
  rootBody,
  signers,
} from './test-network.ts'

const asNode: Usage = { kind: 'node', ed25519: keysOf('node').ed25519 }
const asAuthority: Usage = { kind: 'authority' }
const publishing = (name: string, changes: Partial<Usage & { kind: 'statement' }> = {}): Usage => ({
  kind: 'statement',
  publisher: idOf('publisher'),
  name,
  keys: keysOf('publisher'),
  rights: ['publish'],
  ...changes,
})
const asDelegate = (name: string, changes: Partial<Usage & { kind: 'statement' }> = {}): Usage =>
  publishing(name, { keys: keysOf('delegate'), ...changes })

interface Case {
  readonly chain: readonly Uint8Array[]
  readonly usage: Usage
  readonly at?: number
  readonly root?: Root
  readonly revoked?: readonly string[]
}

/** As a node proves a chain: the form, the rules, then every signature. */
function prove({ chain, usage, at = now, root = goldenRoot, revoked = [] }: Case): void {
  const context: ChainContext = {
    root,
    network,
    at,
    revocation: certificate => (revoked.includes(certificate.fingerprint) ? 'key stolen' : undefined),
  }
  for (const { check } of checkChain(decodeChain(chain), usage, context)) {
    const faulty = faultySignature(check)
    if (faulty !== undefined) throw Object.assign(new Error(faulty), { code: 'certificate-bad-signature' })
  }
}

const bytes = (...chain: readonly { readonly bytes: Uint8Array }[]) => chain.map(one => one.bytes)

let top: Certificate<AuthorityGrant>
let region: Certificate<AuthorityGrant>
let node: Certificate<NodeGrant>
let publisher: Certificate<PublisherGrant>
let delegate: Certificate<PublisherGrant>
let root2: Root
/** What holds, one chain for each usage. */
let honest: Readonly<Record<string, Case>>

const delegated = (
  changes: Changes<PublisherGrant> = {},
  from: Certificate = publisher,
  by: Holder = 'publisher',
) =>
  publisherCertificate(
    from,
    { subject: keysOf('delegate'), names: ['acme/tool-*'], rights: ['publish'], ...changes },
    [by],
  )
const regional = (changes: Changes<AuthorityGrant> = {}, from: Certificate = top, by: Holder = 'authority') =>
  authority({ subject: keysOf('region'), maxPathLength: 1, names: ['acme/*'], ...changes }, [by], from)

beforeAll(async () => {
  top = await authority()
  region = await regional()
  node = await nodeCertificate(top)
  publisher = await publisherCertificate(top)
  delegate = await delegated()
  root2 = await nextRoot(
    goldenRoot,
    { keys: [keysOf('root-3'), keysOf('root-4')], notBefore: now, carried: [top.fingerprint] },
    ['root-1', 'root-3', 'root-4'],
  )
  const regionNode = await nodeCertificate(region, {}, ['region'])
  honest = {
    node: { chain: bytes(node, top), usage: asNode },
    'node of a region': { chain: bytes(regionNode, region, top), usage: asNode },
    authority: { chain: bytes(top), usage: asAuthority },
    region: { chain: bytes(region, top), usage: asAuthority },
    publisher: { chain: bytes(publisher, top), usage: publishing('acme/tool-1') },
    delegate: { chain: bytes(delegate, publisher, top), usage: asDelegate('acme/tool-1') },
    'authority of the root before': {
      chain: bytes(publisher, top),
      usage: publishing('acme/x'),
      root: root2,
    },
  }
})

const outcome = (attempt: Case): string => {
  try {
    prove(attempt)
    return 'accepted'
  } catch (error) {
    return (error as { code?: string }).code ?? `crashed: ${error}`
  }
}
const expectHonest = () => {
  for (const [name, attempt] of Object.entries(honest)) expect(outcome(attempt), name).toBe('accepted')
}

/** The certificate with a body that was changed under its issuer's hand, past the checks of the encoder. */
async function reissued(
  certificate: Certificate,
  change: (raw: Record<string, unknown>) => unknown,
  by: readonly Holder[],
): Promise<Uint8Array> {
  const raw = decodeCbor(certificate.body, 1e6, 'body') as Record<string, unknown>
  const body = encodeCbor(change(raw))
  const { signBody } = await import('../../src/trust/document.ts')
  const signatures = await Promise.all(
    by.map(name => signBody('catalog/certificate/v1', body, signers[name])),
  )
  return encodeDocument(body, signatures).bytes
}

const resigned = (
  certificate: Certificate,
  change: (signatures: DocumentSignature[]) => DocumentSignature[],
) => encodeDocument(certificate.body, change(certificate.signatures.map(one => ({ ...one })))).bytes

const flipped = (source: Uint8Array): Uint8Array => {
  const copy = source.slice()
  copy[copy.length - 100] = (copy[copy.length - 100] ?? 0) ^ 1
  return copy
}

/** kind → what is presented; the first word of the key is the code that it must get. */
const badChains: Readonly<Record<string, readonly [ErrorCode, () => Promise<Case> | Case]>> = {
  // Dates
  'a leaf that ended a millisecond ago': [
    'certificate-expired',
    () => ({ chain: bytes(node, top), usage: asNode, at: node.notAfter + 1 }),
  ],
  'a leaf that begins in a millisecond': [
    'certificate-not-yet-valid',
    () => ({ chain: bytes(node, top), usage: asNode, at: node.notBefore - 1 }),
  ],
  'an authority that ended before its leaf': [
    'certificate-expired',
    async () => {
      const short = await authority({ notAfter: now - 1 })
      return { chain: bytes(await nodeCertificate(short), short), usage: asNode }
    },
  ],
  'an authority that has not begun': [
    'certificate-not-yet-valid',
    async () => {
      const early = await authority({ notBefore: now + 1 })
      return { chain: bytes(await nodeCertificate(early), early), usage: asNode }
    },
  ],
  'a clock that is a day slow': [
    'certificate-not-yet-valid',
    () => ({ chain: bytes(node, top), usage: asNode, at: now - day - 1 }),
  ],
  'a root that has ended': [
    'certificate-expired',
    async () => {
      const root = await nextRoot(goldenRoot, { notAfter: now - 1, carried: [top.fingerprint] }, [
        'root-1',
        'root-2',
      ])
      return { chain: bytes(node, top), usage: asNode, root }
    },
  ],
  'a first root that has not begun': [
    'certificate-not-yet-valid',
    async () => ({
      chain: bytes(top),
      usage: asAuthority,
      root: await signRoot(rootBody({ notBefore: now + 1 }), [signers['root-1']]),
    }),
  ],
  // Issuers
  'a node that issues a node': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(await nodeCertificate(node, {}, ['node']), node, top), usage: asNode }),
  ],
  'a node that issues an authority': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(await authority({}, ['node'], node), node, top), usage: asAuthority }),
  ],
  'a publisher that issues a node': [
    'certificate-wrong-issuer',
    async () => ({
      chain: bytes(await nodeCertificate(publisher, {}, ['publisher']), publisher, top),
      usage: asNode,
    }),
  ],
  'a publisher that issues an authority': [
    'certificate-wrong-issuer',
    async () => ({
      chain: bytes(await authority({ names: ['acme/x'] }, ['publisher'], publisher), publisher, top),
      usage: asAuthority,
    }),
  ],
  'an authority that may issue publishers alone, and issues a node': [
    'certificate-wrong-issuer',
    async () => {
      const narrow = await authority({ issues: ['publisher'] })
      return { chain: bytes(await nodeCertificate(narrow), narrow), usage: asNode }
    },
  ],
  'an authority that may issue nothing': [
    'certificate-wrong-issuer',
    async () => {
      const nothing = await authority({ issues: [] })
      return { chain: bytes(await publisherCertificate(nothing), nothing), usage: publishing('acme/x') }
    },
  ],
  'an authority below one that hands on more kinds than it may issue itself': [
    'certificate-wrong-issuer',
    async () => {
      const narrow = await authority({ issues: ['authority'] })
      const wide = await regional({ issues: ['authority', 'node'] }, narrow)
      return { chain: bytes(await nodeCertificate(wide, {}, ['region']), wide, narrow), usage: asNode }
    },
  ],
  'an issuer that is missing': ['certificate-wrong-issuer', () => ({ chain: bytes(node), usage: asNode })],
  'an intermediate that is missing': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(await nodeCertificate(region, {}, ['region']), top), usage: asNode }),
  ],
  'intermediates in the wrong order': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(await nodeCertificate(region, {}, ['region']), top, region), usage: asNode }),
  ],
  'a chain from the root down': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(top, node), usage: asNode }),
  ],
  'a certificate twice': [
    'certificate-wrong-issuer',
    () => ({ chain: bytes(node, node, top), usage: asNode }),
  ],
  'an authority twice, as a loop': [
    'certificate-wrong-issuer',
    () => ({ chain: bytes(node, top, top), usage: asNode }),
  ],
  'something that was issued by the root, above': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(top, await authority()), usage: asAuthority }),
  ],
  'an issuer of the same keys under another certificate': [
    'certificate-wrong-issuer',
    async () => ({ chain: bytes(node, await authority({ names: ['*'], maxPathLength: 9 })), usage: asNode }),
  ],
  // Path length
  'an authority below one that allows none': [
    'certificate-path-too-long',
    async () => {
      const last = await authority({ maxPathLength: 0 })
      return { chain: bytes(await regional({ maxPathLength: 0 }, last), last), usage: asAuthority }
    },
  ],
  'a second authority below one that allows one': [
    'certificate-path-too-long',
    async () => {
      const one = await authority({ maxPathLength: 1 })
      const below = await regional({ maxPathLength: 8 }, one)
      const second = await regional({ subject: keysOf('stranger') }, below, 'region')
      return { chain: bytes(second, below, one), usage: asAuthority }
    },
  ],
  'a third authority below one that allows two, seen from a leaf': [
    'certificate-path-too-long',
    async () => {
      const first = await regional({ maxPathLength: 9 })
      const second = await regional({ maxPathLength: 9 }, first, 'region')
      const third = await regional({ maxPathLength: 9 }, second, 'region')
      return {
        chain: bytes(await nodeCertificate(third, {}, ['region']), third, second, first, top),
        usage: asNode,
      }
    },
  ],
  // Usage
  'a publisher as a node': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(publisher, top), usage: asNode }),
  ],
  'a node as a publisher': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(node, top), usage: publishing('acme/x') }),
  ],
  'a node as an authority': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(node, top), usage: asAuthority }),
  ],
  'an authority as a node': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(top), usage: { kind: 'node', ed25519: keysOf('authority').ed25519 } }),
  ],
  "another peer's certificate": [
    'certificate-wrong-usage',
    () => ({ chain: bytes(node, top), usage: { kind: 'node', ed25519: keysOf('stranger').ed25519 } }),
  ],
  'a statement by other keys': [
    'certificate-wrong-usage',
    () => ({ chain: bytes(publisher, top), usage: publishing('acme/x', { keys: keysOf('stranger') }) }),
  ],
  'a statement by other Falcon keys alone': [
    'certificate-wrong-usage',
    () => ({
      chain: bytes(publisher, top),
      usage: publishing('acme/x', { keys: { ...keysOf('publisher'), falcon: keysOf('stranger').falcon } }),
    }),
  ],
  "another publisher's id": [
    'certificate-wrong-usage',
    () => ({ chain: bytes(publisher, top), usage: publishing('acme/x', { publisher: idOf('stranger') }) }),
  ],
  'a right that is not granted': [
    'certificate-wrong-usage',
    () => ({
      chain: bytes(delegate, publisher, top),
      usage: asDelegate('acme/tool-1', { rights: ['yank'] }),
    }),
  ],
  'a leaf without any right': [
    'certificate-wrong-usage',
    async () => ({
      chain: bytes(await publisherCertificate(top, { rights: [] }), top),
      usage: publishing('acme/x'),
    }),
  ],
  // Names
  'a name that the leaf is not granted': [
    'certificate-name-not-granted',
    () => ({ chain: bytes(publisher, top), usage: publishing('other/tool') }),
  ],
  'a bare name under a grant of a scope': [
    'certificate-name-not-granted',
    () => ({ chain: bytes(publisher, top), usage: publishing('acme') }),
  ],
  'a leaf without names': [
    'certificate-name-not-granted',
    async () => ({
      chain: bytes(await publisherCertificate(top, { names: [] }), top),
      usage: publishing('acme/x'),
    }),
  ],
  'names that an authority over it lacks': [
    'certificate-name-not-granted',
    async () => ({
      chain: bytes(await publisherCertificate(region, { names: ['other/x'] }, ['region']), region, top),
      usage: publishing('other/x'),
    }),
  ],
  'an authority with names that the one over it lacks': [
    'certificate-name-not-granted',
    async () => {
      const wide = await regional({ names: ['*'] }, region, 'region')
      return {
        chain: bytes(await publisherCertificate(wide, {}, ['region']), wide, region, top),
        usage: publishing('acme/x'),
      }
    },
  ],
  'a pattern that widens a prefix': [
    'certificate-name-not-granted',
    async () => {
      const prefix = await regional({ names: ['acme/tool-*'] })
      return {
        chain: bytes(await publisherCertificate(prefix, { names: ['acme/too*'] }, ['region']), prefix, top),
        usage: publishing('acme/tool-1'),
      }
    },
  ],
  'a pattern that leaves an exact name': [
    'certificate-name-not-granted',
    async () => {
      const exact = await regional({ names: ['acme/tool'] })
      return {
        chain: bytes(await publisherCertificate(exact, { names: ['acme/tool*'] }, ['region']), exact, top),
        usage: publishing('acme/tool-1'),
      }
    },
  ],
  'a scope under a prefix of bare names': [
    'certificate-name-not-granted',
    async () => {
      const bare = await regional({ names: ['ac*'] })
      return {
        chain: bytes(await publisherCertificate(bare, { names: ['acme/*'] }, ['region']), bare, top),
        usage: publishing('acme/tool'),
      }
    },
  ],
  // Delegation
  'a delegate of a publisher that may not delegate': [
    'certificate-wrong-issuer',
    async () => {
      const plain = await publisherCertificate(top, { rights: ['publish'] })
      return { chain: bytes(await delegated({}, plain), plain, top), usage: asDelegate('acme/tool-1') }
    },
  ],
  'a delegate with a right more': [
    'certificate-wrong-issuer',
    async () => ({
      chain: bytes(await delegated({ rights: ['publish', 'yank'] }), publisher, top),
      usage: asDelegate('acme/tool-1'),
    }),
  ],
  'a delegate with a name more': [
    'certificate-name-not-granted',
    async () => ({
      chain: bytes(await delegated({ names: ['*'] }), publisher, top),
      usage: asDelegate('other/x'),
    }),
  ],
  'a delegate for another publisher': [
    'certificate-wrong-issuer',
    async () => ({
      chain: bytes(await delegated({ publisher: idOf('stranger') }), publisher, top),
      usage: asDelegate('acme/tool-1', { publisher: idOf('stranger') }),
    }),
  ],
  'a delegate that delegates without the right': [
    'certificate-wrong-issuer',
    async () => {
      const second = await delegated({ subject: keysOf('stranger') }, delegate, 'delegate')
      return {
        chain: bytes(second, delegate, publisher, top),
        usage: asDelegate('acme/tool-1', { keys: keysOf('stranger') }),
      }
    },
  ],
  // Critical fields
  'an unknown critical field in the leaf': [
    'certificate-unknown-critical',
    async () => ({
      chain: bytes(await nodeCertificate(top, { critical: { 'only-on-mondays': true } }), top),
      usage: asNode,
    }),
  ],
  'an unknown critical field in an authority': [
    'certificate-unknown-critical',
    async () => {
      const odd = await authority({ critical: { '': null } })
      return { chain: bytes(await nodeCertificate(odd), odd), usage: asNode }
    },
  ],
  // Revocation
  'a leaf that its authority revoked': [
    'certificate-revoked',
    () => ({ chain: bytes(node, top), usage: asNode, revoked: [node.fingerprint] }),
  ],
  'an authority in the middle that was revoked': [
    'certificate-revoked',
    async () => ({
      chain: bytes(await nodeCertificate(region, {}, ['region']), region, top),
      usage: asNode,
      revoked: [region.fingerprint],
    }),
  ],
  'a delegate whose publisher was revoked': [
    'certificate-revoked',
    () => ({
      chain: bytes(delegate, publisher, top),
      usage: asDelegate('acme/tool-1'),
      revoked: [publisher.fingerprint],
    }),
  ],
  'an authority that the root revoked': [
    'certificate-revoked',
    async () => {
      const root = await nextRoot(goldenRoot, { carried: [top.fingerprint], revoked: [top.fingerprint] }, [
        'root-1',
        'root-2',
      ])
      return { chain: bytes(node, top), usage: asNode, root }
    },
  ],
  'a node that the root revoked': [
    'certificate-revoked',
    async () => ({
      chain: bytes(node, top),
      usage: asNode,
      root: await nextRoot(goldenRoot, { revoked: [node.fingerprint] }, ['root-1', 'root-2']),
    }),
  ],
  // Networks and roots
  'a leaf of another network': [
    'certificate-wrong-network',
    async () => ({
      chain: bytes(await nodeCertificate(top, { network: idOf('stranger') }), top),
      usage: asNode,
    }),
  ],
  'a chain under another root of the same name': [
    'certificate-wrong-network',
    async () => {
      const keys = [keysOf('root-4'), keysOf('root-5')]
      const other = await signRoot(rootBody({ keys }), [signers['root-4'], signers['root-5']])
      const theirs = await authority({ network: other.fingerprint, issuer: other.fingerprint }, [
        'root-4',
        'root-5',
      ])
      return {
        chain: bytes(await nodeCertificate(theirs, { network: other.fingerprint }), theirs),
        usage: asNode,
      }
    },
  ],
  'an authority by the keys of another root that claims this one': [
    'root-threshold',
    async () => {
      const theirs = await authority({}, ['root-4', 'root-5'])
      return { chain: bytes(await nodeCertificate(theirs), theirs), usage: asNode }
    },
  ],
  'an authority by one key of the root': [
    'root-threshold',
    async () => {
      const one = await authority({}, ['root-1'])
      return { chain: bytes(await nodeCertificate(one), one), usage: asNode }
    },
  ],
  'an authority by one key of the root and a stranger': [
    'root-threshold',
    async () => {
      const one = await authority({}, ['root-1', 'stranger'])
      return { chain: bytes(await nodeCertificate(one), one), usage: asNode }
    },
  ],
  'an authority by enough keys of the root, and a stranger': [
    'root-threshold',
    async () => {
      const more = await authority({}, ['root-1', 'root-2', 'stranger'])
      return { chain: bytes(await nodeCertificate(more), more), usage: asNode }
    },
  ],
  'an authority by the keys of a root that was followed, not carried on': [
    'root-threshold',
    async () => {
      const late = await authority({}, ['root-1', 'root-2'])
      return { chain: bytes(await nodeCertificate(late), late), usage: asNode, root: root2 }
    },
  ],
  'a leaf by the root that no root signed': [
    'root-threshold',
    async () => ({
      chain: bytes(await nodeCertificate(top, { issuer: network }, ['authority'])),
      usage: asNode,
    }),
  ],
  // Signatures
  'a leaf that somebody else signed': [
    'certificate-bad-signature',
    async () => ({ chain: bytes(await nodeCertificate(top, {}, ['stranger']), top), usage: asNode }),
  ],
  'a leaf that nobody signed': [
    'certificate-bad-signature',
    () => ({ chain: [resigned(node, () => []), top.bytes], usage: asNode }),
  ],
  'a leaf that its issuer and somebody else signed': [
    'certificate-bad-signature',
    async () => ({
      chain: bytes(await nodeCertificate(top, {}, ['authority', 'stranger']), top),
      usage: asNode,
    }),
  ],
  'a leaf whose Ed25519 signature alone holds': [
    'certificate-bad-signature',
    () => ({
      chain: [resigned(node, list => list.map(one => ({ ...one, falcon: flipped(one.falcon) }))), top.bytes],
      usage: asNode,
    }),
  ],
  'a leaf whose Falcon signature alone holds': [
    'certificate-bad-signature',
    () => ({
      chain: [resigned(node, list => list.map(one => ({ ...one, ed25519: new Uint8Array(64) }))), top.bytes],
      usage: asNode,
    }),
  ],
  'the signature of another certificate': [
    'certificate-bad-signature',
    async () => {
      const other = await nodeCertificate(top)
      return { chain: [resigned(node, () => [...other.signatures]), top.bytes], usage: asNode }
    },
  ],
  "a root's signature that does not hold beside enough that do": [
    'certificate-bad-signature',
    async () => {
      const three = await authority({}, ['root-1', 'root-2', 'root-3'])
      const bent = resigned(three, list =>
        list.map((one, at) => (at === 0 ? { ...one, falcon: flipped(one.falcon) } : one)),
      )
      return { chain: [(await nodeCertificate(three)).bytes, bent], usage: asNode }
    },
  ],
  'a signature for another domain': [
    'certificate-bad-signature',
    async () => {
      const { signBody } = await import('../../src/trust/document.ts')
      const other = await signBody('catalog/revocations/v1', node.body, signers.authority)
      return { chain: [resigned(node, () => [other]), top.bytes], usage: asNode }
    },
  ],
  // Form
  'no certificate at all': ['certificate-malformed', () => ({ chain: [], usage: asNode })],
  'nine certificates': ['certificate-malformed', () => ({ chain: Array(9).fill(top.bytes), usage: asNode })],
  'a certificate of more bytes than one may have': [
    'certificate-malformed',
    async () => {
      const raw = await reissued(
        node,
        body => ({ ...body, extensions: { padding: new Uint8Array(24 * 1024) } }),
        ['authority'],
      )
      return { chain: [raw, top.bytes], usage: asNode }
    },
  ],
  'a chain of more bytes than one may have': [
    'certificate-malformed',
    async () => {
      const large = await reissued(
        node,
        body => ({ ...body, extensions: { padding: new Uint8Array(20 * 1024) } }),
        ['authority'],
      )
      return { chain: [large, large, large], usage: asNode }
    },
  ],
  'a byte behind a certificate': [
    'certificate-malformed',
    () => ({ chain: [Buffer.concat([node.bytes, Buffer.from([0])]), top.bytes], usage: asNode }),
  ],
  'bytes that are no CBOR': [
    'certificate-malformed',
    () => ({ chain: [Buffer.from('certificate'), top.bytes], usage: asNode }),
  ],
  'CBOR that is no certificate': [
    'certificate-malformed',
    () => ({ chain: [encodeCbor(['v', 1])], usage: asNode }),
  ],
  'CBOR in another order': [
    'certificate-malformed',
    () => {
      // A map of one entry, its length written in two bytes where one is enough.
      const loose = Buffer.concat([Buffer.from([0xb8, 3]), node.bytes.subarray(1)])
      return { chain: [loose, top.bytes], usage: asNode }
    },
  ],
  'two signatures of one signer': [
    'certificate-malformed',
    () => ({
      chain: [resigned(node, ([one]) => (one === undefined ? [] : [one, one])), top.bytes],
      usage: asNode,
    }),
  ],
  'two signatures of one key of the root': [
    'certificate-malformed',
    async () => {
      const one = await authority({}, ['root-1'])
      const twice = resigned(one, ([first]) => (first === undefined ? [] : [first, first]))
      return { chain: [(await nodeCertificate(one)).bytes, twice], usage: asNode }
    },
  ],
}

const forms: Readonly<Record<string, (raw: Record<string, unknown>) => Record<string, unknown>>> = {
  'an unknown field': raw => ({ ...raw, color: 'red' }),
  'the right of another kind': raw => ({ ...raw, maxPathLength: 5 }),
  'an unknown version': raw => ({ ...raw, v: 2 }),
  'no version': ({ v: _, ...raw }) => raw,
  'an unknown type': raw => ({ ...raw, type: 'king' }),
  'an unknown role': raw => ({ ...raw, roles: ['king'] }),
  'an unknown capability': raw => ({ ...raw, capabilities: ['administer'] }),
  'capabilities out of order': raw => ({ ...raw, capabilities: ['publish', 'fetch'] }),
  'a capability twice': raw => ({ ...raw, capabilities: ['fetch', 'fetch'] }),
  'no capabilities': ({ capabilities: _, ...raw }) => raw,
  'an end before its beginning': raw => ({ ...raw, notAfter: (raw['notBefore'] as number) - 1 }),
  'a date that is no whole number': raw => ({ ...raw, notAfter: 1.5 }),
  'a negative date': raw => ({ ...raw, notBefore: -1 }),
  'a date that is a text': raw => ({ ...raw, notAfter: '2030' }),
  'a short serial': raw => ({ ...raw, serial: new Uint8Array(15) }),
  'a short Ed25519 key': raw => ({
    ...raw,
    subject: { ...(raw['subject'] as object), ed25519: new Uint8Array(31) },
  }),
  'a long Falcon key': raw => ({
    ...raw,
    subject: { ...(raw['subject'] as object), falcon: new Uint8Array(1794) },
  }),
  'a third key': raw => ({ ...raw, subject: { ...(raw['subject'] as object), rsa: new Uint8Array(9) } }),
  'a network that is no fingerprint': raw => ({ ...raw, network: 'hypermesh' }),
  'an issuer that is no fingerprint': raw => ({ ...raw, issuer: 'me' }),
  'an empty label': raw => ({ ...raw, label: '' }),
  'a label of two screens': raw => ({ ...raw, label: 'x'.repeat(201) }),
  'a label that speaks to the terminal': raw => ({ ...raw, label: 'honest\u001b[2K' }),
  'critical fields that are a list': raw => ({ ...raw, critical: [] }),
  'critical fields that are bytes': raw => ({ ...raw, critical: new Uint8Array(1) }),
  'extensions within extensions': raw => ({ ...raw, extensions: { a: [{}, {}] } }),
  'critical fields within others': raw => ({ ...raw, critical: { a: { b: 1 } } }),
  'seventeen extensions': raw => ({
    ...raw,
    extensions: Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`x${at}`, at])),
  }),
  'no critical fields': ({ critical: _, ...raw }) => raw,
  'no extensions': ({ extensions: _, ...raw }) => raw,
}

describe('a bad chain', () => {
  it.each(Object.entries(badChains))('%s is refused, and the honest ones hold', async (_, [code, make]) => {
    expect(outcome(await make())).toBe(code)
    expectHonest()
  })

  it.each(Object.entries(forms))(
    'with %s is refused by its form, and the honest ones hold',
    async (_, change) => {
      const attempt = { chain: [await reissued(node, change, ['authority']), top.bytes], usage: asNode }
      expect(outcome(attempt)).toBe('certificate-malformed')
      // The control: the same detour without a change makes a certificate that holds.
      const untouched = { chain: [await reissued(node, raw => raw, ['authority']), top.bytes], usage: asNode }
      expect(outcome(untouched)).toBe('accepted')
      expectHonest()
    },
  )

  it.each([
    ['a publisher', (raw: Record<string, unknown>) => ({ ...raw, publisher: 'somebody' })],
    ['a pattern', (raw: Record<string, unknown>) => ({ ...raw, names: ['acme/**'] })],
    ['a right', (raw: Record<string, unknown>) => ({ ...raw, rights: ['rule'] })],
    [
      '65 patterns',
      (raw: Record<string, unknown>) => ({
        ...raw,
        names: Array.from({ length: 65 }, (_, at) => `n${100 + at}`),
      }),
    ],
  ])('with %s that is none is refused by its form', async (_, change) => {
    const chain = [await reissued(publisher, change, ['authority']), top.bytes]
    expect(outcome({ chain, usage: publishing('acme/x') })).toBe('certificate-malformed')
  })
})

describe('an honest chain', () => {
  it('holds from the first to the last millisecond of each of its certificates', () => {
    for (const at of [node.notBefore, now, node.notAfter])
      expect(outcome({ chain: bytes(node, top), usage: asNode, at })).toBe('accepted')
  })

  it('holds at exactly the path length that is allowed, and one more is refused', async () => {
    const below = [top]
    for (const length of [1, 0])
      below.unshift(
        await regional({ maxPathLength: length }, below[0], below.length === 1 ? 'authority' : 'region'),
      )
    const leaf = await nodeCertificate(below[0] as Certificate, {}, ['region'])
    expect(outcome({ chain: bytes(leaf, ...below), usage: asNode })).toBe('accepted')
    const one = await regional({ maxPathLength: 0 }, below[0], 'region')
    expect(outcome({ chain: bytes(one, ...below), usage: asAuthority })).toBe('certificate-path-too-long')
  })

  it('of eight certificates holds', async () => {
    const chain: Certificate<PublisherGrant | AuthorityGrant>[] = [publisher, top]
    const own = { subject: keysOf('publisher'), names: ['acme/*'], rights: ['delegate', 'publish'] } as const
    while (chain.length < 8) chain.unshift(await delegated(own, chain[0] as Certificate))
    expect(outcome({ chain: bytes(...chain), usage: publishing('acme/x') })).toBe('accepted')
  })

  it('keeps what was signed before a later root began', () => {
    const before = {
      chain: bytes(publisher, top),
      usage: publishing('acme/x'),
      root: root2,
      at: root2.notBefore - 1000,
    }
    expect(outcome(before)).toBe('accepted')
  })

  it('may be shown for whatever it is', () => {
    for (const chain of [
      bytes(node, top),
      bytes(publisher, top),
      bytes(delegate, publisher, top),
      bytes(top),
    ])
      expect(outcome({ chain, usage: { kind: 'any' } })).toBe('accepted')
  })

  it('grants one right of those that would do', () => {
    const usage = asDelegate('acme/tool-1', { rights: ['yank', 'publish'] })
    expect(outcome({ chain: bytes(delegate, publisher, top), usage })).toBe('accepted')
  })

  it('lets keys follow keys: the id of a publisher stays', async () => {
    const later = await publisherCertificate(top, { subject: keysOf('stranger') })
    expect(
      outcome({ chain: bytes(later, top), usage: publishing('acme/x', { keys: keysOf('stranger') }) }),
    ).toBe('accepted')
  })
})

describe('no issuer can hand on what it lacks', () => {
  // Random grants along a chain: where the chain holds, every certificate over the leaf allows what the leaf does.
  const patterns = ['*', 'acme/*', 'acme/t*', 'acme/tool', 'a*', 'tool', 'zoo/*']
  const kinds = ['authority', 'node', 'publisher'] as const
  const grant = fc.record({
    names: fc.subarray(patterns),
    issues: fc.subarray([...kinds]),
    maxPathLength: fc.nat(2),
  })
  const names = ['acme/tool', 'acme/tip', 'acme/x', 'tool', 'able', 'zoo/x']

  /** Signatures cost 20 ms each and say nothing here: the rules are checked on unsigned certificates. */
  const unsigned = (body: Parameters<typeof encodeCertificateBody>[0]): Certificate => {
    const encoded = encodeCertificateBody(body)
    const signature = { key: idOf('authority'), ed25519: new Uint8Array(64), falcon: new Uint8Array(1280) }
    return decodeCertificate(encodeDocument(encoded, [signature]).bytes)
  }
  const common = (issuer: string) => ({
    network,
    serial: new Uint8Array(16),
    subject: keysOf('authority'),
    issuer,
    notBefore: now,
    notAfter: now,
    critical: {},
    extensions: {},
  })

  it('over 3,000 random chains', () => {
    let held = 0
    fc.assert(
      fc.property(
        fc.array(grant, { minLength: 1, maxLength: 4 }),
        fc.subarray(patterns, { minLength: 1 }),
        fc.constantFrom(...names),
        (above, granted, name) => {
          let issuer = network
          const chain: Certificate[] = []
          for (const one of above) {
            chain.unshift(unsigned({ ...common(issuer), type: 'authority', ...one }))
            issuer = chain[0]?.fingerprint ?? ''
          }
          const rights = ['publish'] as const
          const id = idOf('publisher')
          chain.unshift(
            unsigned({ ...common(issuer), type: 'publisher', publisher: id, names: granted, rights }),
          )
          const carried = { ...goldenRoot, carried: [chain.at(-1)?.fingerprint ?? ''] }
          const context = { root: carried, network, at: now, revocation: () => undefined }
          try {
            checkChain(chain, publishing(name, { keys: keysOf('authority') }), context)
          } catch (error) {
            if (!isCatalogError(error)) throw error
            return
          }
          held += 1
          const allows = (pattern: string) =>
            pattern === '*' ||
            pattern === name ||
            (pattern.endsWith('*') &&
              name.startsWith(pattern.slice(0, -1)) &&
              !name.slice(pattern.length - 1).includes('/'))
          expect(above.every(one => one.names.some(allows))).toBe(true)
          expect(
            above.every((one, at) =>
              one.issues.includes(at === above.length - 1 ? 'publisher' : 'authority'),
            ),
          ).toBe(true)
          expect(above.every((one, at) => one.maxPathLength >= above.length - 1 - at)).toBe(true)
        },
      ),
      { numRuns: 3000 },
    )
    // The control: chains that hold are among them.
    expect(held).toBeGreaterThan(30)
  })
})

describe('a certificate that is issued', () => {
  it('has one form, whatever order its sets were given in', async () => {
    const body = {
      ...common(top),
      type: 'node' as const,
      roles: ['store', 'relay'] as const,
      capabilities: ['publish', 'fetch', 'publish'] as const,
    }
    const issued = await issueCertificate(body, [signers.authority])
    expect(issued.roles).toEqual(['relay', 'store'])
    expect(issued.capabilities).toEqual(['fetch', 'publish'])
    expect(decodeCertificate(issued.bytes)).toEqual(issued)
  })

  const common = (issuer: Certificate) => ({
    network,
    serial: new Uint8Array(16),
    subject: keysOf('node'),
    issuer: issuer.fingerprint,
    notBefore: now,
    notAfter: now,
    critical: {},
    extensions: {},
  })
})
