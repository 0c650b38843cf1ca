// What a publisher takes back of what it delegated, by a list of its own: over memory hosts, and a clock that the test moves.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { askRenewal } from '../../src/membership/certificates-protocol.ts'
import { type Certificate, decodeChain, type PublisherGrant } from '../../src/trust/certificate.ts'
import { fingerprintOf } from '../../src/trust/document.ts'
import { signRevocations } from '../../src/trust/revocation-list.ts'
import { noticeOf } from '../../src/trust/trust-chain.ts'
import { signers, type TestSigner } from '../trust/test-network.ts'
import { type Clock, day, leafOf, type Member, type SmallNetwork, smallNetwork } from './members.ts'

let small: SmallNetwork
let clock: Clock
let founder: Member
let ann: Member

beforeEach(async () => {
  small = await smallNetwork()
  ;({ clock, founder, ann } = small)
})
afterEach(() => small.stop())

describe('a publisher', () => {
  const delegated = async () => {
    const bob = await small.annDelegates('acme/*')
    const [chain] = bob.held.delegations as [readonly Uint8Array[]]
    return { bob, chain }
  }
  const proved = (who: Member, chain: readonly Uint8Array[]) =>
    who.trust.prove(chain, { kind: 'any' }).then(
      () => 'holds',
      (error: { code?: string }) => error.code,
    )
  const listOf = (who: Member) =>
    who.trust.withdrawalsOf(leafOf(ann.held.publisher) as Certificate<PublisherGrant>)

  test('takes back what it delegated, and nothing else, without an authority', async () => {
    const { bob, chain } = await delegated()
    const done = await ann.administration.revoke({ target: bob.peer, reason: 'left' })
    expect(done).toMatchObject({ revoked: [leafOf(chain).fingerprint], sequence: 1 })
    const list = listOf(ann)?.bytes as Uint8Array
    // By sync.
    expect(await founder.trust.accept(list)).toBe('added')
    expect(await founder.trust.accept(list)).toBe('known')
    expect(await proved(founder, chain)).toBe('certificate-revoked')
    expect(await proved(founder, bob.held.publisher)).toBe('holds')
    expect(await proved(founder, ann.held.publisher)).toBe('holds')
    // It says nothing about who is cut off, and is no authority's.
    expect(founder.trust.revocationLists()).toHaveLength(1)
    expect(noticeOf(list).key).toBe(
      `withdrawn/${signers.publisher.fingerprint}/${leafOf(ann.held.publisher).issuer}`,
    )
    clock.at += 40 * day
    await founder.authority?.renewList()
    expect(founder.trust.freshness(decodeChain(ann.held.publisher)).state).toBe('current')
    expect(await proved(founder, chain)).toBe('certificate-revoked')
    // Nothing is renewed for it, by either.
    await expect(askRenewal(bob.host, ann.peer)).rejects.toMatchObject({ code: 'not-found' })
    await expect(ann.administration.revoke({ target: bob.peer })).rejects.toMatchObject({
      code: 'capability-missing',
    })
  })

  test('keeps taken back what was, when its keys are rotated', async () => {
    const { bob, chain } = await delegated()
    await ann.administration.revoke({ target: leafOf(chain).fingerprint })
    await founder.trust.accept(listOf(ann)?.bytes as Uint8Array)
    await ann.rotation.rotate({ revokeOld: true })
    const list = listOf(ann)
    expect(list).toMatchObject({ sequence: 2, issuer: leafOf(ann.held.publisher).fingerprint })
    expect(await founder.trust.accept(list?.bytes as Uint8Array)).toBe('added')
    await ann.renewals.check()
    expect(bob.held.delegations).toEqual([chain])
    expect(await proved(founder, chain)).toBe('certificate-revoked')
  })

  test('whose keys were stolen is heard again, whatever number the thief took', async () => {
    const { chain } = await delegated()
    const { issuer, ...rest } = { issuer: leafOf(ann.held.publisher), ...{ type: 'revocations' as const } }
    const at = clock.now()
    const stolen = await signRevocations(
      {
        ...{
          ...rest,
          network: small.founded.root,
          issuer: issuer.fingerprint,
          sequence: Number.MAX_SAFE_INTEGER,
        },
        ...{ issuedAt: at, expiresAt: at + day, revoked: [], chain: ann.held.publisher },
      },
      signers.publisher,
    )
    await founder.trust.accept(stolen.bytes)
    await ann.trust.accept(stolen.bytes)
    const revoke = () => ann.administration.revoke({ target: leafOf(chain).fingerprint })
    await expect(revoke()).rejects.toMatchObject({
      code: 'too-large',
      message: expect.stringMatching(/--revoke-old/),
    })
    await ann.rotation.rotate({ revokeOld: true })
    // By sync.
    const [authority] = founder.trust.revocationLists()
    await ann.trust.accept(authority?.bytes as Uint8Array)
    await revoke()
    expect(await founder.trust.accept(listOf(ann)?.bytes as Uint8Array)).toBe('added')
    expect(await proved(founder, chain)).toBe('certificate-revoked')
    // What the thief signed counts for nothing now.
    await expect(founder.trust.accept(stolen.bytes)).rejects.toMatchObject({ code: 'certificate-revoked' })
  })

  test('can take back nothing of others, by no list', async () => {
    const { bob, chain } = await delegated()
    const at = clock.now()
    const sign = (by: readonly Uint8Array[], signer: TestSigner, revoked: readonly string[], sequence = 2) =>
      signRevocations(
        {
          ...{ type: 'revocations', network: small.founded.root, issuer: leafOf(by).fingerprint, sequence },
          ...{ issuedAt: at, expiresAt: at + day, chain: by },
          revoked: revoked.map(certificate => ({ certificate, at, reason: 'mine' })),
        },
        signer,
      )
    // Below it stands nothing of these.
    const others = [bob.held.node, bob.held.publisher, ann.held.publisher].map(one => leafOf(one).fingerprint)
    await founder.trust.accept((await sign(ann.held.publisher, signers.publisher, others, 1)).bytes)
    for (const one of [bob.held.node, bob.held.publisher, ann.held.publisher])
      expect(await proved(founder, one)).toBe('holds')
    // A delegate, who signs as this publisher, and a publisher that may not delegate.
    const byDelegate = await sign(chain, signers.delegate, [])
    const byBob = await sign(bob.held.publisher, signers.delegate, [])
    const byNode = await sign(bob.held.node, bob.keys.node, [])
    for (const list of [byDelegate, byBob, byNode])
      await expect(founder.trust.accept(list.bytes)).rejects.toMatchObject({
        code: 'certificate-wrong-issuer',
      })
    const many = Array.from({ length: 257 }, (_, one) => fingerprintOf(new Uint8Array([one, one >> 8])))
    const tooMany = await sign(ann.held.publisher, signers.publisher, many)
    await expect(founder.trust.accept(tooMany.bytes)).rejects.toMatchObject({ code: 'certificate-malformed' })
  })
})
