// An authority without a signature: nothing until the next root carries it, and shown in words to whoever signs that.
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type CertificateBody,
  decodeChain,
  encodeCertificateBody,
  issueCertificate,
} from '../../src/trust/certificate.ts'
import { encodeDocument } from '../../src/trust/document.ts'
import { certifyOwn } from '../../src/trust/founding.ts'
import {
  decodeJoined,
  encodeJoined,
  isNewAuthority,
  type Joined,
  proveJoined,
  proveNewAuthority,
} from '../../src/trust/joined.ts'
import {
  type AuthorityCertificate,
  authorityForRequest,
  newAuthorityLimits,
  readNewAuthority,
} from '../../src/trust/new-authority.ts'
import type { Root } from '../../src/trust/root.ts'
import {
  completeProposal,
  decodeProposal,
  describeProposal,
  encodeProposal,
  proposeRoot,
  signProposal,
} from '../../src/trust/root-rotation.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'
import type { TrustChain } from '../../src/trust/trust-chain.ts'
import {
  authority,
  day,
  goldenRoot,
  idOf,
  keysOf,
  network,
  newTrustChain,
  now,
  signers,
} from './test-network.ts'

const check = async (one: SignatureCheck) => faultySignature(one)
const deps = { check, now: () => now }
const request = { authority: keysOf('region'), label: 'heir' }

let made: AuthorityCertificate
let old: string
let root: Root
beforeAll(async () => {
  made = authorityForRequest(request, network, now)
  old = (await authority()).fingerprint
  root = await next([made], [old])
})

async function next(authorities: readonly AuthorityCertificate[], revoke: readonly string[]): Promise<Root> {
  const proposal = proposeRoot(goldenRoot, { authorities, revoke }, [old], now)
  return completeProposal(await signProposal(proposal, [signers['root-1'], signers['root-2']]))
}

async function chainUnder(...roots: readonly Root[]): Promise<TrustChain> {
  const trust = await newTrustChain()
  for (const { bytes } of roots) await trust.accept(bytes)
  return trust
}

const joined = (roots: readonly Root[]): Joined => ({
  roots: [goldenRoot, ...roots].map(({ bytes }) => bytes),
  ...{ node: [], publisher: [], authority: [made.bytes], revocations: [] },
})

describe('an authority that the root makes', () => {
  it('holds under the root that carries it and every later one, and under no other', async () => {
    const before = await chainUnder()
    await expect(before.prove([made.bytes], { kind: 'authority' })).rejects.toMatchObject({
      code: 'root-threshold',
    })
    const after = await chainUnder(root)
    await expect(after.prove([made.bytes], { kind: 'authority' })).resolves.toHaveLength(1)
    const proposal = proposeRoot(root, {}, [], now)
    const third = completeProposal(await signProposal(proposal, [signers['root-1'], signers['root-3']]))
    await expect((await chainUnder(root, third)).prove([made.bytes], { kind: 'any' })).resolves.toHaveLength(
      1,
    )
    const ending = proposeRoot(root, { revoke: [made.fingerprint] }, [], now)
    const fourth = completeProposal(await signProposal(ending, [signers['root-1'], signers['root-3']]))
    await expect((await chainUnder(root, fourth)).prove([made.bytes], { kind: 'any' })).rejects.toMatchObject(
      {
        code: 'certificate-revoked',
      },
    )
  })

  it('is shown to whoever signs, and ends the old one in the same step', async () => {
    const proposal = decodeProposal(
      encodeProposal(proposeRoot(goldenRoot, { authorities: [made], revoke: [old] }, [old], now)),
    )
    const signed = decodeProposal(encodeProposal(await signProposal(proposal, [signers['root-2']])))
    for (const each of [proposal, signed])
      expect(describeProposal(each)).toMatchObject({
        carried: [made.fingerprint],
        revoked: [old],
        authorities: [
          {
            ...{ certificate: made.fingerprint, keys: idOf('region'), label: 'heir' },
            ...{ names: ['*'], maxPathLength: 1, notAfter: now + 3 * 365 * day },
          },
        ],
      })
  })

  it('certifies its own node, and nobody else does', async () => {
    const file = decodeJoined(encodeJoined(joined([root])))
    expect(isNewAuthority(file)).toBe(true)
    await proveNewAuthority(file, network, keysOf('region'), deps)
    await expect(proveNewAuthority(file, network, keysOf('authority'), deps)).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
    })
    await expect(proveNewAuthority(joined([]), network, keysOf('region'), deps)).rejects.toMatchObject({
      code: 'root-threshold',
    })
    // Where somebody else is to certify a node, such a file does not.
    const keys = { node: keysOf('node'), publisher: keysOf('publisher'), authority: keysOf('region') }
    await expect(proveJoined(file, network, keys, deps)).rejects.toMatchObject({
      code: 'certificate-malformed',
    })

    const own = await certifyOwn(
      { chain: [made.bytes], signer: signers.region },
      { node: keys.node, publisher: { keys: keys.publisher, fingerprint: idOf('publisher') } },
      { names: [], now },
    )
    const complete = { ...file, ...own, revocations: [own.revocations.bytes] }
    await proveJoined(complete, network, keys, deps)
    const [leaf] = decodeChain(own.publisher)
    expect(leaf).toMatchObject({ type: 'publisher', names: [], publisher: idOf('publisher') })
    expect(own.revocations).toMatchObject({ sequence: 1, issuer: made.fingerprint })
  })
})

describe('a proposal with new authorities', () => {
  const beside =
    (bytes: Uint8Array, carried: readonly string[] = [made.fingerprint]) =>
    () =>
      readNewAuthority(bytes, carried)
  const malformed = expect.objectContaining({ code: 'certificate-malformed' })

  it('shows no other than it makes', async () => {
    expect(beside(made.bytes)()).toEqual(made)
    expect(beside(made.bytes, [])).toThrow(malformed)
    const { body: _, bytes: __, signatures: ___, fingerprint: ____, ...body } = made
    // The fingerprint is the same; a signature has no place there.
    const signed = await issueCertificate(body, [signers.stranger])
    expect(beside(signed.bytes)).toThrow(malformed)
    const other = (changes: Partial<CertificateBody>) => {
      const { bytes, fingerprint } = encodeDocument(
        encodeCertificateBody({ ...body, ...changes } as CertificateBody),
        [],
      )
      return beside(bytes, [fingerprint])
    }
    expect(other({})).not.toThrow()
    expect(other({ issuer: old })).toThrow(malformed)
    expect(other({ extensions: { a: new Uint8Array(newAuthorityLimits.maxBytes) } })).toThrow(malformed)
    const [{ bytes: node }] = [encodeDocument(encodeCertificateBody(nodeBody()), [])]
    expect(beside(node)).toThrow(malformed)
  })

  it('has four at most', () => {
    const many = Array.from({ length: newAuthorityLimits.maxCertificates + 1 }, () =>
      authorityForRequest(request, network, now),
    )
    const propose = (count: number) => () =>
      proposeRoot(goldenRoot, { authorities: many.slice(0, count) }, [], now)
    expect(propose(5)).toThrow(expect.objectContaining({ code: 'invalid-request' }))
    const four = propose(4)()
    expect(decodeProposal(encodeProposal(four)).authorities).toHaveLength(4)
    const { current, next: root } = four
    expect(() => decodeProposal(encodeProposal({ current, next: root, authorities: many }))).toThrow(
      malformed,
    )
  })

  it('is not made for a request of another network, or of no authority', () => {
    expect(() => authorityForRequest({ ...request, root: old }, network, now)).toThrow(
      expect.objectContaining({ code: 'certificate-wrong-network' }),
    )
    expect(() => authorityForRequest({ label: 'x' }, network, now)).toThrow(
      expect.objectContaining({ code: 'invalid-request' }),
    )
  })
})

const nodeBody = (): CertificateBody => ({
  ...{ type: 'node', roles: ['store'], capabilities: ['fetch'], network, issuer: network },
  ...{ subject: keysOf('node'), serial: new Uint8Array(16), notBefore: now, notAfter: now + day },
  ...{ critical: {}, extensions: {} },
})
