// Rotation of a publisher's keys between a member and its authority, over memory hosts and a clock that the test moves.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  askRenewal,
  askRetirement,
  askRotation,
  rotationMessage,
} from '../../src/membership/certificates-protocol.ts'
import { redeemInvite } from '../../src/membership/redeem-invite.ts'
import { decodeCertificate } from '../../src/trust/certificate.ts'
import { provePossession } from '../../src/trust/possession.ts'
import { signers, type TestSigner } from '../trust/test-network.ts'
import {
  type Clock,
  check,
  day,
  inviteBy,
  leafOf,
  type Member,
  meet,
  namesOf,
  publisherOf,
  type SmallNetwork,
  smallNetwork,
  until,
} from './members.ts'

let small: SmallNetwork
let clock: Clock
let founder: Member
let ann: Member

beforeEach(async () => {
  small = await smallNetwork()
  ;({ clock, founder, ann } = small)
})
afterEach(() => small.stop())

const revoked = (chain: readonly Uint8Array[]) =>
  founder.trust.prove(chain, { kind: 'any' }).then(
    () => false,
    (error: { code?: string }) => error.code === 'certificate-revoked',
  )

/** The question that a node would ask, by these keys. */
async function request(
  from: Member,
  certificate: string,
  old: TestSigner,
  fresh: TestSigner,
  toward = founder,
) {
  const keys = fresh.publicKeys
  const message = rotationMessage(small.founded.root, from.peer, toward.peer, { certificate, keys })
  const [by, next] = [await provePossession(old, message), await provePossession(fresh, message)]
  return { certificate, keys, old: by, new: next }
}

const issuedPublishers = async () =>
  (await founder.administration.issued()).filter(
    ({ type, peer }) => type === 'publisher' && peer === ann.peer,
  )

describe('rotating', () => {
  test('gives the publisher other keys under the same id, with the same names; the old ones are not renewed', async () => {
    await small.annHolds('acme/*')
    const before = ann.held.publisher
    const done = await ann.rotation.rotate()
    const leaf = leafOf(ann.held.publisher)
    expect(done).toMatchObject({
      publisher: signers.publisher.fingerprint,
      keys: signers.region.fingerprint,
      certificate: leaf.fingerprint,
      by: founder.peer,
      previous: { certificate: leafOf(before).fingerprint, revoked: false },
      warnings: [],
    })
    expect(leaf).toMatchObject({
      publisher: signers.publisher.fingerprint,
      names: ['acme/*'],
      rights: ['delegate', 'publish', 'yank'],
    })
    expect(leaf.subject).toEqual(signers.region.publicKeys)
    expect(ann.held.next).toBeUndefined()
    // What others signed with the old ones counts until it is revoked.
    await founder.trust.prove(before, { kind: 'any' })
    // Later grants and renewals are for the new ones.
    await founder.grants.grant({ names: ['base-*'], to: ann.peer })
    expect(namesOf(ann.held.publisher)).toEqual(['acme/*', 'base-*'])
    clock.at += 300 * day
    await founder.renewals.check()
    await founder.authority?.renewList()
    const rotated = ann.held.publisher
    await ann.renewals.check()
    expect(ann.held.publisher).not.toEqual(rotated)
    expect(leafOf(ann.held.publisher).subject).toEqual(signers.region.publicKeys)
    expect(leafOf(ann.held.publisher).notAfter).toBeGreaterThan(clock.at + 300 * day)
    const valid = (await issuedPublishers()).filter(({ state }) => state === 'valid')
    expect(valid.map(({ certificate }) => certificate)).toContain(leafOf(ann.held.publisher).fingerprint)
  })

  test('with --revoke-old ends every certificate for the old keys, and no other', async () => {
    const bare = ann.held.publisher
    await small.annHolds('acme/*')
    const named = ann.held.publisher
    const done = await ann.rotation.rotate({ revokeOld: true, reason: 'laptop stolen' })
    expect(done.previous.revoked).toBe(true)
    expect([await revoked(bare), await revoked(named)]).toEqual([true, true])
    expect(await revoked(ann.held.publisher)).toBe(false)
    expect(await revoked(ann.held.node)).toBe(false)
    const reasons = (await issuedPublishers()).map(({ reason }) => reason ?? '')
    expect(reasons.sort()).toEqual(['', 'laptop stolen', 'laptop stolen'])
  })

  test('on an authority needs nobody else', async () => {
    const done = await founder.rotation.rotate({ revokeOld: true })
    expect(done).toMatchObject({ by: founder.peer, previous: { revoked: true } })
    expect(leafOf(founder.held.publisher)).toMatchObject({
      publisher: founder.keys.publisher.fingerprint,
      names: ['*'],
    })
  })

  test('without an authority makes nothing', async () => {
    await expect(ann.rotation.rotate()).rejects.toMatchObject({
      code: 'peer-unreachable',
      message: expect.stringMatching(/no authority of the network is connected/),
    })
    expect(ann.held.next).toBeUndefined()
  })

  test('whose answer is lost goes on with the same keys, by itself, and makes no second certificate', async () => {
    await small.annHolds('acme/*')
    const { rotations } = founder
    const rotate = rotations?.rotate.bind(rotations)
    Object.assign(rotations as object, {
      rotate: async (...question: Parameters<NonNullable<typeof rotate>>) => {
        await rotate?.(...question)
        throw new Error('the connection broke')
      },
    })
    await expect(ann.rotation.rotate()).rejects.toMatchObject({ code: 'internal' })
    expect(ann.held.next?.fingerprint).toBe(signers.region.fingerprint)
    expect(ann.held.signer.fingerprint).toBe(signers.publisher.fingerprint)
    Object.assign(rotations as object, { rotate })
    const before = (await issuedPublishers()).length
    await ann.rotation.stop()
    await ann.rotation.start()
    await until(() => ann.held.next === undefined, 'the rotation goes on')
    expect(leafOf(ann.held.publisher).subject).toEqual(signers.region.publicKeys)
    expect(await issuedPublishers()).toHaveLength(before)
  })

  test('gives delegates certificates under the new keys, and tells who must delegate anew', async () => {
    const bob = await small.annDelegates('acme/*')
    const before = bob.held.delegations
    clock.at += 1000
    await ann.rotation.rotate({ revokeOld: true })
    expect(bob.held.delegations).toHaveLength(1)
    expect(bob.held.delegations).not.toEqual(before)
    expect(leafOf(bob.held.delegations[0] as Uint8Array[]).issuer).toBe(
      leafOf(ann.held.publisher).fingerprint,
    )
    await founder.trust.prove(bob.held.delegations[0] as Uint8Array[], { kind: 'any' })
    bob.held.makes = signers['root-2']
    const { warnings } = await bob.rotation.rotate()
    expect(warnings).toEqual([expect.stringContaining(publisherOf(ann.held.publisher) as string)])
    expect(bob.held.delegations).toEqual([])
  })
})

describe('an authority refuses', () => {
  test('another node, though it holds the keys', async () => {
    const thief = await small.bob()
    await small.annHolds('acme/*')
    await meet(thief, founder)
    const stolen = leafOf(ann.held.publisher).fingerprint
    const question = await request(thief, stolen, signers.publisher, signers['root-3'])
    await expect(askRotation(thief.host, founder.peer, question)).rejects.toMatchObject({ code: 'not-found' })
    await expect(askRetirement(thief.host, founder.peer, { certificate: stolen })).rejects.toMatchObject({
      code: 'not-found',
    })
  })

  test('a node that does not hold both pairs of keys', async () => {
    await small.annHolds('acme/*')
    const { fingerprint } = leafOf(ann.held.publisher)
    const honest = await request(ann, fingerprint, signers.publisher, signers.region)
    const other = await request(ann, fingerprint, signers.stranger, signers.stranger)
    for (const question of [
      { ...honest, old: other.old },
      { ...honest, new: other.new },
      { ...honest, keys: signers.stranger.publicKeys },
      await request(ann, fingerprint, signers.publisher, signers.region, ann),
    ])
      await expect(askRotation(ann.host, founder.peer, question)).rejects.toMatchObject({
        code: 'certificate-bad-signature',
      })
    await askRotation(ann.host, founder.peer, honest)
  })

  test('keys that were replaced already, and retiring those in use', async () => {
    await small.annHolds('acme/*')
    const before = leafOf(ann.held.publisher).fingerprint
    await expect(askRetirement(ann.host, founder.peer, { certificate: before })).rejects.toMatchObject({
      code: 'invalid-request',
    })
    await ann.rotation.rotate()
    const again = await request(ann, before, signers.publisher, signers['root-3'])
    await expect(askRotation(ann.host, founder.peer, again)).rejects.toMatchObject({ code: 'stale-record' })
  })

  test('a certificate that is not of a publisher, or of no one, or not an authority’s to give', async () => {
    await meet(ann, founder)
    const ask = async (certificate: string, to: Member) =>
      askRotation(ann.host, to.peer, await request(ann, certificate, signers.publisher, signers.region, to))
    await expect(ask(leafOf(ann.held.node).fingerprint, founder)).rejects.toMatchObject({ code: 'not-found' })
    await expect(ask(small.founded.root, founder)).rejects.toMatchObject({ code: 'not-found' })
    const bob = await small.bob()
    await meet(ann, bob)
    await expect(ask(leafOf(ann.held.publisher).fingerprint, bob)).rejects.toMatchObject({
      code: 'capability-missing',
    })
  })

  test('a new list to who asks again for what was taken back, and many pairs of keys to one node', async () => {
    await small.annHolds('acme/*')
    const retire = (certificate: string) => askRetirement(ann.host, founder.peer, { certificate })
    const first = leafOf(ann.held.publisher).fingerprint
    await ann.rotation.rotate()
    const sequence = await retire(first)
    expect([await retire(first), await retire(first)]).toEqual([sequence, sequence])
    // Sixteen pairs that were taken back, and one more that the node would retire.
    for (let pair = 0; pair < 16; pair++) {
      const keys = { ...signers.delegate.publicKeys, ed25519: new Uint8Array(32).fill(pair) }
      const { authority } = founder
      if (authority === undefined) throw new Error('the founder is an authority')
      const [made] = await authority.issuePublisher({
        ...{ subject: keys, publisher: signers.publisher.fingerprint, names: [], rights: [] },
        holder: ann.keys.node.publicKeys.ed25519,
      })
      await authority.revoke([decodeCertificate(made as Uint8Array).fingerprint], 'one of many')
    }
    ann.held.makes = signers['root-2']
    const second = leafOf(ann.held.publisher).fingerprint
    await ann.rotation.rotate()
    await expect(retire(second)).rejects.toMatchObject({ code: 'quota-exceeded' })
    expect(await revoked(ann.held.publisher)).toBe(false)
  })

  test('more than four rotations a day', async () => {
    await small.annHolds('acme/*')
    for (const holder of ['region', 'root-2', 'root-3', 'stranger', 'delegate'] as const) {
      ann.held.makes = signers[holder]
      const done = ann.rotation.rotate()
      if (holder === 'delegate') await expect(done).rejects.toMatchObject({ code: 'busy' })
      else await done
    }
    expect(ann.held.signer.fingerprint).toBe(signers.stranger.fingerprint)
    clock.at += day + 1
    await ann.rotation.rotate()
    expect(ann.held.signer.fingerprint).toBe(signers.delegate.fingerprint)
  })
})

describe('after a theft', () => {
  test('keys that were revoked are replaced only where the operator allows it, once', async () => {
    const bare = ann.held.publisher
    await small.annHolds('acme/*')
    const stolen = leafOf(ann.held.publisher)
    await founder.administration.revoke({ target: stolen.fingerprint, reason: 'stolen' })
    await expect(ann.rotation.rotate()).rejects.toMatchObject({
      code: 'certificate-revoked',
      message: expect.stringContaining(`catalog trust revoke ${stolen.fingerprint} --allow-rotation`),
    })
    expect(ann.held.next).toBeUndefined()
    // The other certificate for the same keys is not forgotten.
    expect(await revoked(bare)).toBe(true)

    const allowed = await founder.administration.revoke({ target: stolen.fingerprint, allowRotation: true })
    expect([...allowed.revoked].sort()).toEqual([stolen.fingerprint, leafOf(bare).fingerprint].sort())
    expect(await revoked(bare)).toBe(true)
    await ann.rotation.rotate()
    expect(leafOf(ann.held.publisher)).toMatchObject({
      publisher: signers.publisher.fingerprint,
      names: ['acme/*'],
    })

    const again = await request(ann, stolen.fingerprint, signers.publisher, signers['root-3'])
    await expect(askRotation(ann.host, founder.peer, again)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
  })

  test('a rotation is allowed for publisher certificates alone', async () => {
    const allow = (target: string) => founder.administration.revoke({ target, allowRotation: true })
    await expect(allow(ann.peer)).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(allow(leafOf(ann.held.node).fingerprint)).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(allow(small.founded.root)).rejects.toMatchObject({ code: 'not-found' })
    expect(await revoked(ann.held.node)).toBe(false)
  })

  test('a node that joins again keeps the id that its rotated keys go on under', async () => {
    await small.annHolds('acme/*')
    await ann.rotation.rotate()
    clock.at += 400 * day
    await founder.authority?.renewList()
    await founder.renewals.check()
    const { node } = ann.keys
    const joined = await redeemInvite(
      ann.host,
      await inviteBy(founder),
      { node, publisher: signers.region },
      { check, now: clock.now },
    )
    expect(leafOf(joined.publisher)).toMatchObject({
      publisher: signers.publisher.fingerprint,
      subject: signers.region.publicKeys,
      names: [],
    })
  })
})

describe('a second authority', () => {
  /** Certified by the first, on a node of its own. */
  async function secondAuthority(): Promise<Member> {
    const chain = await founder.authority?.issueAuthority({
      ...{ subject: signers['root-2'].publicKeys, maxPathLength: 0 },
      ...{ issues: ['node', 'publisher'], names: ['*'] },
    })
    const authority = { signer: signers['root-2'], chain: chain as readonly Uint8Array[] }
    return small.admitted('region', 'root-3', { authority })
  }

  test('lets nodes in, renews what it issued, and vouches for its own node when the first is gone', async () => {
    const second = await secondAuthority()
    const issuer = second.authority?.certificate.fingerprint as string
    // What sync would bring.
    const list = founder.authority?.certificate.fingerprint as string
    await second.trust.accept(founder.trust.revocationsOf(list)?.bytes as Uint8Array)
    await founder.stop()

    const bob = await small.admitted('stranger', 'delegate', {}, second)
    const before = [bob.held.node, second.held.node, second.held.publisher]
    clock.at += 70 * day
    await second.renewals.check()
    expect(leafOf(second.held.node).notAfter).toBe(clock.at + 90 * day)
    expect(leafOf(second.held.node)).toMatchObject({ roles: ['store'], issuer })
    expect(second.held.publisher).toBe(before[2])
    await meet(bob, second)
    // Its node certificate says nothing of an authority; one that is made by a file does.
    const renewed = (await askRenewal(bob.host, second.peer)).map(leafOf)
    const node = renewed.find(({ type }) => type === 'node')
    expect(node?.notAfter).toBeGreaterThanOrEqual(clock.at + 90 * day)
    await bob.trust.prove(second.held.node, { kind: 'any' })
    // The publisher certificate lives longer; when it ends, the names go on.
    clock.at += 230 * day
    await second.renewals.check()
    expect(leafOf(second.held.publisher)).toMatchObject({
      publisher: second.keys.publisher.fingerprint,
      issuer,
    })
  })

  test('cannot replace keys that the first certified', async () => {
    const second = await secondAuthority()
    await meet(ann, second)
    const { fingerprint } = leafOf(ann.held.publisher)
    const question = await request(ann, fingerprint, signers.publisher, signers.stranger, second)
    await expect(askRotation(ann.host, second.peer, question)).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringMatching(/ask the one that did/),
    })
  })
})
