// The next root, signed by one holder after the other, on machines that see nothing but the file.
import { beforeAll, describe, expect, it } from 'vitest'
import type { AuthorityGrant, Certificate } from '../../src/trust/certificate.ts'
import type { Root } from '../../src/trust/root.ts'
import {
  completeProposal,
  decodeProposal,
  decodePublicKeys,
  describeProposal,
  encodeProposal,
  encodePublicKeys,
  type Proposal,
  proposeRoot,
  signProposal,
} from '../../src/trust/root-rotation.ts'
import {
  authority,
  day,
  goldenRoot,
  type Holder,
  idOf,
  keysOf,
  newTrustChain,
  now,
  signers,
} from './test-network.ts'

let top: Certificate<AuthorityGrant>
beforeAll(async () => {
  top = await authority()
})

const throughFile = (proposal: Proposal) => decodeProposal(encodeProposal(proposal))
const sign = async (proposal: Proposal, ...by: readonly Holder[]) =>
  signProposal(
    throughFile(proposal),
    by.map(name => signers[name]),
  )
/** Key 1 is lost; 4 comes in its place. */
const replaceFirst = (current: Root = goldenRoot) =>
  proposeRoot(current, { add: [keysOf('root-4')], remove: [idOf('root-1')] }, [top.fingerprint], now)

describe('a rotation', () => {
  it('with one old key lost goes from hand to hand and is believed', async () => {
    let proposal = replaceFirst()
    expect(describeProposal(proposal)).toMatchObject({
      version: 2,
      added: [idOf('root-4')],
      removed: [idOf('root-1')],
      threshold: 2,
      signed: [],
      missing: { old: 2, new: 2 },
      carried: [top.fingerprint],
    })
    proposal = await sign(proposal, 'root-4')
    // The new key counts for the new root alone.
    expect(describeProposal(proposal).missing).toEqual({ old: 2, new: 1 })
    proposal = await sign(proposal, 'root-2')
    expect(describeProposal(proposal).missing).toEqual({ old: 1, new: 0 })
    expect(() => completeProposal(proposal)).toThrow(expect.objectContaining({ code: 'root-threshold' }))
    proposal = await sign(proposal, 'root-3')
    const root = completeProposal(throughFile(proposal))

    const trust = await newTrustChain()
    expect(await trust.accept(root.bytes)).toBe('added')
    await expect(trust.prove([top.bytes], { kind: 'authority' })).resolves.toHaveLength(1)

    // And the one after it, with another old key lost.
    const second = proposeRoot(
      trust.root,
      { add: [keysOf('root-5')], remove: [idOf('root-2')], threshold: 3 },
      [],
      now,
    )
    const done = completeProposal(await sign(second, 'root-3', 'root-4', 'root-5'))
    expect(await trust.accept(done.bytes)).toBe('added')
    await expect(trust.prove([top.bytes], { kind: 'authority' })).resolves.toHaveLength(1)
  })

  it('signed twice by one holder counts him once', async () => {
    const once = await sign(replaceFirst(), 'root-2')
    const twice = await sign(once, 'root-2')
    expect(encodeProposal(twice)).toBe(encodeProposal(once))
    expect(describeProposal(twice).missing).toEqual({ old: 1, new: 1 })
  })

  it('takes the keys that decide and leaves the others', async () => {
    const signed = await sign(replaceFirst(), 'stranger', 'root-2')
    expect(describeProposal(signed).signed).toEqual([idOf('root-2')])
    await expect(sign(replaceFirst(), 'stranger')).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(sign(replaceFirst())).rejects.toMatchObject({ code: 'invalid-request' })
  })

  it('that revokes an authority carries it no further', () => {
    const { next } = proposeRoot(goldenRoot, { revoke: [top.fingerprint] }, [top.fingerprint], now)
    expect(next).toMatchObject({ revoked: [top.fingerprint], carried: [] })
    const after = proposeRoot(next, {}, [top.fingerprint], now)
    expect(after.next).toMatchObject({ revoked: [top.fingerprint], carried: [] })
  })

  it('lives as long as the one before it was made for, or as it is told', () => {
    const { next } = proposeRoot(goldenRoot, {}, [], now)
    expect(next.notAfter - next.notBefore).toBe(goldenRoot.notAfter - goldenRoot.notBefore)
    expect(proposeRoot(goldenRoot, { lifetimeMs: day }, [], now).next).toMatchObject({
      notBefore: now,
      notAfter: now + day,
    })
  })

  it.each<[string, Parameters<typeof proposeRoot>[1]]>([
    ['removes a key that it has not', { remove: [idOf('stranger')] }],
    ['adds a key that it has', { add: [keysOf('root-1')] }],
    ['adds one key twice', { add: [keysOf('root-4'), keysOf('root-4')] }],
    ['adds half a key that it has', { add: [{ ...keysOf('root-4'), ed25519: keysOf('root-1').ed25519 }] }],
    ['has a threshold of none', { threshold: 0 }],
    ['has a threshold over its keys', { threshold: 4 }],
    ['leaves fewer keys than its threshold', { remove: [idOf('root-1'), idOf('root-2')] }],
    ['leaves no keys', { remove: [idOf('root-1'), idOf('root-2'), idOf('root-3')] }],
    ['revokes what is no certificate', { revoke: ['everything'] }],
    ['lasts for less than nothing', { lifetimeMs: -1 }],
  ])('that %s is not proposed', (_, changes) => {
    expect(() => proposeRoot(goldenRoot, changes, [], now)).toThrow(
      expect.objectContaining({ code: 'invalid-request' }),
    )
  })
})

describe('a proposal file', () => {
  it('that was changed is not taken further', async () => {
    const text = encodeProposal(await sign(replaceFirst(), 'root-2'))
    const lines = text.split('\n')
    const middle = Math.floor(lines.length / 2)
    const outcomes = new Set<string>()
    for (let line = 1; line < lines.length - 1; line += 5) {
      const changed = [...lines]
      changed[line] = (changed[line] ?? '').replace(/^./, first => (first === 'A' ? 'B' : 'A'))
      if (changed[line] === lines[line]) continue
      try {
        decodeProposal(changed.join('\n'))
        outcomes.add('read')
      } catch (error) {
        outcomes.add((error as { code?: string }).code ?? 'crashed')
      }
    }
    // The signatures of the root before it are not looked at here: whoever accepts the next knows that one himself.
    expect(
      [...outcomes].filter(code => !['certificate-malformed', 'root-not-trusted', 'read'].includes(code)),
    ).toEqual([])
    expect(outcomes).toContain('root-not-trusted')
    expect(() => decodeProposal(lines.slice(0, middle).join('\n'))).toThrow(
      expect.objectContaining({ code: 'certificate-malformed' }),
    )
    expect(decodeProposal(text.replaceAll('\n', '\r\n')).next.signatures).toHaveLength(1)
  })

  it.each<[string, () => string, string]>([
    ['nothing', () => '', 'certificate-malformed'],
    ['another file', () => encodePublicKeys(keysOf('root-1')), 'certificate-malformed'],
    ['no base64', () => 'catalog root proposal v1\n!!!!', 'certificate-malformed'],
    ['no CBOR', () => 'catalog root proposal v1\nAAAA', 'certificate-malformed'],
    [
      'a root that follows another',
      () => encodeProposal({ ...replaceFirst(), current: replaceFirst().next }),
      'certificate-malformed',
    ],
    ['a mebibyte', () => 'x'.repeat(2 ** 20), 'too-large'],
  ])('of %s is refused', (_, make, code) => {
    expect(() => decodeProposal(make())).toThrow(expect.objectContaining({ code }))
  })

  it('with a signature by a stranger is refused', async () => {
    const { signRoot } = await import('../../src/trust/root.ts')
    const { current, next } = replaceFirst()
    const { body: _, bytes: __, signatures: ___, fingerprint: ____, ...fields } = next
    const signed = await signRoot(fields, [signers.stranger, signers['root-2']])
    expect(() => decodeProposal(encodeProposal({ current, next: signed }))).toThrow(
      expect.objectContaining({ code: 'root-not-trusted' }),
    )
  })

  it('of public keys goes out and comes back', () => {
    expect(decodePublicKeys(encodePublicKeys(keysOf('root-4')))).toEqual(keysOf('root-4'))
    expect(() => decodePublicKeys('catalog public keys v1\nAAAA')).toThrow(
      expect.objectContaining({ code: 'certificate-malformed' }),
    )
    expect(() => decodePublicKeys(encodeProposal(replaceFirst()))).toThrow(
      expect.objectContaining({ code: 'certificate-malformed' }),
    )
  })
})
