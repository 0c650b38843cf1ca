// Renewal, grants, delegation and revocation between members, over memory hosts and a clock that the test moves.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { askIdentity, askRenewal, askState, deliver } from '../../src/membership/certificates-protocol.ts'
import { peerOfKey } from '../../src/network/identity.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { decodeChain } from '../../src/trust/certificate.ts'
import { Issuer } from '../../src/trust/issuer.ts'
import {
  type Clock,
  day,
  founderOf,
  freshRecords,
  leafOf,
  type Member,
  meet,
  member,
  memberKeys,
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

const restartFounder = async (records = freshRecords(), network = new MemoryNetwork()): Promise<void> => {
  await founder.stop()
  founder = await founderOf(small.founded, clock, { network, records })
  small.members.push(founder)
}

describe('renewal', () => {
  test('nothing happens before a third is left; then node and publisher certificates are made anew', async () => {
    await meet(ann, founder)
    const before = ann.held.node
    clock.at += 55 * day
    await ann.renewals.check()
    expect(ann.held.node).toBe(before)
    clock.at += 10 * day
    await founder.authority?.renewList()
    await ann.renewals.check()
    expect(leafOf(ann.held.node).notAfter).toBe(clock.at + 90 * day)
    expect(leafOf(ann.held.node)).toMatchObject({ roles: ['store'], capabilities: ['fetch', 'publish'] })
    expect(leafOf(ann.held.publisher).notAfter).toBeGreaterThan(clock.at + 290 * day)
    const renewed = ann.held.node
    await ann.renewals.check()
    expect(ann.held.node).toBe(renewed)
  })

  test('what is due when an authority connects is renewed at once', async () => {
    clock.at += 70 * day
    const before = ann.held.node
    await ann.renewals.check()
    expect(ann.held.node).toBe(before)
    await meet(ann, founder)
    await until(() => ann.held.node !== before, 'a new certificate')
  })

  test('an authority renews its own node, which was certified before it had a ledger', async () => {
    clock.at += 70 * day
    await founder.renewals.check()
    expect(leafOf(founder.held.node).notAfter).toBe(clock.at + 90 * day)
    expect(leafOf(founder.held.node)).toMatchObject({ roles: ['authority', 'execute', 'relay', 'store'] })
  })

  test('asking often issues nothing twice', async () => {
    await meet(ann, founder)
    clock.at += 70 * day
    const [first, second] = await Promise.all([
      askRenewal(ann.host, founder.peer),
      askRenewal(ann.host, founder.peer),
    ])
    const issued = (chains: readonly (readonly Uint8Array[])[] = []) =>
      chains.map(chain => leafOf(chain).fingerprint).sort()
    expect(issued(second)).toEqual(issued(first))
    expect(issued(await askRenewal(ann.host, founder.peer))).toEqual(issued(first))
  })

  test('a revoked node is not renewed, and its publisher neither', async () => {
    await meet(ann, founder)
    await founder.administration.revoke({ target: ann.peer, reason: 'left' })
    await expect(askRenewal(ann.host, founder.peer)).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringMatching(/was revoked/),
    })
  })

  test('with ten days left and no authority in reach, the log says so once a day', async () => {
    clock.at += 81 * day
    await ann.renewals.check()
    await ann.renewals.check()
    expect(ann.log.lines.filter(line => line.includes('ends soon'))).toHaveLength(1)
    clock.at += day
    await ann.renewals.check()
    expect(ann.log.lines.filter(line => line.includes('ends soon'))).toHaveLength(2)
  })

  test('nobody renews for a peer that has nothing from here', async () => {
    const other = await small.bob()
    await meet(other, ann)
    await expect(askRenewal(other.host, ann.peer)).rejects.toMatchObject({ code: 'not-found' })
  })
})

describe('grants', () => {
  test('reach a connected peer at once, and add to what it has', async () => {
    await meet(ann, founder)
    const first = await founder.grants.grant({ names: ['acme/*'], to: ann.peer })
    expect(first).toMatchObject({
      delivered: true,
      by: 'authority',
      publisher: ann.keys.publisher.fingerprint,
      names: ['acme/*'],
    })
    const second = await founder.grants.grant({ names: ['base-runtime'], to: ann.peer })
    expect(second.names).toEqual(['acme/*', 'base-runtime'])
    expect(namesOf(ann.held.publisher)).toEqual(['acme/*', 'base-runtime'])
    expect(ann.held.delegations).toEqual([])
  })

  test('made at once, lose nothing of each other', async () => {
    await meet(ann, founder)
    await Promise.all(
      ['one', 'two', 'three'].map(name => founder.grants.grant({ names: [name], to: ann.peer })),
    )
    expect(namesOf(ann.held.publisher)).toEqual(['one', 'three', 'two'])
  })

  test('wait for a peer that is away, over a restart of the authority, in the order in which they were made', async () => {
    expect(await founder.grants.grant({ names: ['acme/*'], to: ann.peer })).toMatchObject({
      delivered: false,
    })
    expect(await founder.grants.grant({ names: ['tool'], to: ann.peer })).toMatchObject({
      delivered: false,
    })
    const network = new MemoryNetwork()
    await restartFounder(founder.records, network)
    await ann.stop()
    const { keys, held } = ann
    const { founded } = small
    ann = await member({ clock, founded, network, keys, node: held.node, publisher: held.publisher })
    small.members.push(ann)
    expect(await founder.outbox.waitingFor(ann.peer)).toBe(2)
    await meet(ann, founder)
    await until(async () => (await founder.outbox.waitingFor(ann.peer)) === 0, 'an empty outbox')
    expect(namesOf(ann.held.publisher)).toEqual(['acme/*', 'tool'])
  })

  test('of names that another holds are made with a warning', async () => {
    const other = await small.bob()
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer })
    const granted = await founder.grants.grant({ names: ['acme/tool'], to: other.peer })
    expect(granted.warnings).toEqual([expect.stringContaining(ann.keys.publisher.fingerprint)])
    expect((await founder.grants.grant({ names: ['other'], to: other.peer })).warnings).toEqual([])
  })

  test('of what is no name, or to what is no peer, are refused with a sentence', async () => {
    const grant = (names: string[], to: string) => founder.grants.grant({ names, to })
    await expect(grant(['Acme/*'], ann.peer)).rejects.toMatchObject({
      code: 'invalid-request',
      message: expect.stringMatching(/no name or pattern/),
    })
    await expect(grant(['acme/*'], 'ann')).rejects.toMatchObject({
      code: 'invalid-request',
      message: expect.stringMatching(/no peer id/),
    })
    const unknown = peerOfKey((await memberKeys('region', 'delegate')).node.publicKeys.ed25519)
    await expect(grant(['acme/*'], unknown)).rejects.toMatchObject({ code: 'peer-unreachable' })
  })

  test('by a node that is no authority are delegations of its publisher', async () => {
    const other = await small.bob()
    await meet(ann, founder)
    await meet(other, ann)
    await founder.grants.grant({
      names: ['acme/*', 'tool'],
      to: ann.peer,
      rights: ['delegate', 'publish', 'yank'],
    })
    const lent = await ann.grants.grant({ names: ['acme/cli-*'], to: other.peer })
    expect(lent).toMatchObject({
      by: 'delegation',
      publisher: ann.keys.publisher.fingerprint,
      names: ['acme/cli-*'],
      rights: ['publish', 'yank'],
      delivered: true,
    })
    expect(other.held.delegations.map(publisherOf)).toEqual([ann.keys.publisher.fingerprint])
    expect(publisherOf(other.held.publisher)).toBe(other.keys.publisher.fingerprint)
    await expect(ann.grants.grant({ names: ['base-*'], to: other.peer })).rejects.toMatchObject({
      code: 'certificate-name-not-granted',
    })
    await expect(
      ann.grants.grant({ names: ['tool'], to: other.peer, rights: ['freshen'] }),
    ).rejects.toMatchObject({ code: 'certificate-wrong-issuer' })
  })

  test('without the right to delegate, are refused before anything is signed', async () => {
    const other = await small.bob()
    await meet(other, ann)
    await expect(ann.grants.grant({ names: ['tool'], to: other.peer })).rejects.toMatchObject({
      code: 'capability-missing',
    })
  })

  test('delegated are renewed by handing them over before they end', async () => {
    const other = await small.bob()
    await meet(ann, founder)
    await meet(other, ann)
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer, rights: ['delegate', 'publish'] })
    await ann.grants.grant({ names: ['acme/*'], to: other.peer })
    const before = other.held.delegations[0] as readonly Uint8Array[]
    // The publisher's own certificate ends first: the delegation follows the new one.
    clock.at += 250 * day
    await founder.authority?.renewList()
    const chains = (await founder.authority?.issuer.renewFor(ann.keys.node.publicKeys.ed25519)) ?? []
    for (const chain of chains) await ann.server.take(chain)
    await ann.renewals.check()
    const after = other.held.delegations[0] as readonly Uint8Array[]
    expect(leafOf(after).notAfter).toBeGreaterThan(leafOf(before).notAfter)
    expect(decodeChain(after)[1]?.fingerprint).toBe(leafOf(ann.held.publisher).fingerprint)
  })
})

describe('a delivery', () => {
  test('for other keys is refused', async () => {
    const other = await small.bob()
    await meet(ann, other)
    await expect(deliver(ann.host, other.peer, ann.held.publisher)).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
    })
    await expect(deliver(ann.host, other.peer, ann.held.node)).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
    })
  })

  test('that is older than what is used is refused, and the same again changes nothing', async () => {
    await meet(ann, founder)
    const old = ann.held.publisher
    clock.at += 1000
    await founder.grants.grant({ names: ['tool'], to: ann.peer })
    await expect(deliver(founder.host, ann.peer, old)).rejects.toMatchObject({ code: 'stale-record' })
    expect(await deliver(founder.host, ann.peer, ann.held.publisher)).toBe('publisher')
    expect(namesOf(ann.held.publisher)).toEqual(['tool'])
  })

  test('by another authority cannot take away what the node may do', async () => {
    const other = await small.bob()
    await meet(ann, founder)
    await meet(other, ann)
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer })
    // Under the same root, and with hardly a right of its own.
    const above = (await founder.authority?.issueAuthority({
      ...{ subject: other.keys.publisher.publicKeys, maxPathLength: 0 },
      ...{ issues: ['node', 'publisher'], names: ['evil/*'] },
    })) as readonly Uint8Array[]
    const issuer = new Issuer({
      ...{ signer: other.keys.publisher, chain: () => above, ledger: other.delegations.ledger },
      ...{ trust: other.trust, now: clock.now },
    })
    clock.at += 1000
    const { node, publisher } = ann.keys
    const nothing = [
      await issuer.issue({ grant: { type: 'node', roles: [], capabilities: [] }, subject: node.publicKeys }),
      await issuer.issue({
        grant: { type: 'publisher', publisher: publisher.fingerprint, names: [], rights: [] },
        subject: publisher.publicKeys,
      }),
      await issuer.issue({
        grant: { type: 'node', roles: ['store'], capabilities: ['fetch', 'publish'] },
        ...{ subject: node.publicKeys, lifetimeMs: 60_000 },
      }),
    ]
    const before = [ann.held.node, ann.held.publisher]
    for (const chain of nothing)
      await expect(deliver(other.host, ann.peer, chain)).rejects.toMatchObject({
        code: 'certificate-wrong-issuer',
        message: expect.stringMatching(/grants less, or for a shorter time/),
      })
    expect([ann.held.node, ann.held.publisher]).toEqual(before)
    // Whoever issued it may.
    const less = await founder.authority?.issueNode({
      ...{ subject: node.publicKeys, roles: ['store'], capabilities: ['fetch'] },
    })
    expect(await deliver(founder.host, ann.peer, less as readonly Uint8Array[])).toBe('node')
  })

  test("by a delegate cannot take the publisher's own names away", async () => {
    const other = await small.bob()
    await meet(ann, founder)
    await meet(other, ann)
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer, rights: ['delegate', 'publish'] })
    await ann.grants.grant({ names: ['acme/*'], to: other.peer, rights: ['delegate', 'publish'] })
    const [delegation] = other.held.delegations as [readonly Uint8Array[]]
    const issuer = new Issuer({
      signer: other.keys.publisher,
      chain: () => delegation,
      ledger: other.delegations.ledger,
      trust: other.trust,
      now: clock.now,
    })
    clock.at += 1000
    const chain = await issuer.issue({
      grant: { type: 'publisher', publisher: ann.keys.publisher.fingerprint, names: [], rights: [] },
      subject: ann.keys.publisher.publicKeys,
    })
    await expect(deliver(other.host, ann.peer, chain)).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
      message: expect.stringMatching(/delegate cannot replace/),
    })
    expect(namesOf(ann.held.publisher)).toEqual(['acme/*'])
  })

  test('of what is no certificate, too many or too much is refused', async () => {
    await meet(ann, founder)
    const bytes = leafOf(ann.held.node).bytes
    for (const chain of [
      [new Uint8Array(10)],
      Array.from({ length: 9 }, () => bytes),
      [bytes.subarray(0, 100)],
    ])
      await expect(deliver(founder.host, ann.peer, chain)).rejects.toMatchObject({
        code: 'certificate-malformed',
      })
  })
})

describe('asking', () => {
  test('whoever shows the publisher certificate of another gets nothing granted for it', async () => {
    const other = await small.bob()
    await meet(ann, founder)
    await meet(other, ann)
    await founder.grants.grant({
      names: ['acme/*'],
      to: ann.peer,
      rights: ['delegate', 'publish'],
    })
    other.held.publisher = ann.held.publisher
    await expect(ann.grants.grant({ names: ['acme/*'], to: other.peer })).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
      message: expect.stringMatching(/keys it does not hold/),
    })
  })

  test('shows a publisher with a proof for this asker alone, and the state of the network', async () => {
    await meet(ann, founder)
    const { chain } = await askIdentity(founder.host, ann.peer, new Uint8Array(16))
    expect(chain).toEqual(ann.held.publisher)
    expect(await askState(ann.host, founder.peer)).toMatchObject({
      roots: [small.founded.firstRoot],
      revocations: [expect.any(Uint8Array)],
    })
  })
})

describe('revoking', () => {
  test('a peer takes back all that it has, and shows in the ledger with the reason', async () => {
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer })
    const { revoked, sequence } = await founder.administration.revoke({
      target: ann.peer,
      reason: 'key stolen',
    })
    expect(revoked).toHaveLength(3)
    expect(sequence).toBe(2)
    const views = (await founder.administration.issued()).filter(({ peer }) => peer === ann.peer)
    expect(views.map(({ state, reason }) => `${state}: ${reason}`)).toEqual(
      Array(3).fill('revoked: key stolen'),
    )
    await expect(founder.trust.prove(ann.held.node, { kind: 'any' })).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
  })

  test('one certificate leaves the others; unknown peers and the own node are refused', async () => {
    const { revoked } = await founder.administration.revoke({
      target: leafOf(ann.held.publisher).fingerprint,
    })
    expect(revoked).toEqual([leafOf(ann.held.publisher).fingerprint])
    await founder.trust.prove(ann.held.node, { kind: 'any' })
    const revoke = (target: string) => founder.administration.revoke({ target })
    await expect(revoke('nobody')).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(revoke(founder.peer)).rejects.toMatchObject({
      code: 'invalid-request',
      message: expect.stringMatching(/own node off/),
    })
    const unknown = peerOfKey((await memberKeys('region', 'delegate')).node.publicKeys.ed25519)
    await expect(revoke(unknown)).rejects.toMatchObject({ code: 'not-found' })
  })

  test('one certificate takes back older ones for the same keys, which could be shown and renewed instead', async () => {
    await meet(ann, founder)
    const [bare, node] = [ann.held.publisher, ann.held.node]
    await founder.grants.grant({ names: ['acme/*'], to: ann.peer })
    const newest = leafOf(ann.held.publisher).fingerprint
    const { revoked } = await founder.administration.revoke({ target: newest, reason: 'key stolen' })
    expect(revoked).toEqual([newest, leafOf(bare).fingerprint])
    await expect(founder.trust.prove(bare, { kind: 'any' })).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
    const renewed = await askRenewal(ann.host, founder.peer)
    expect(renewed).toEqual([node])
  })

  test('survives a restart, and goes on from a newer list that others brought back', async () => {
    await restartFounder()
    const before = founder.authority?.certificate.fingerprint as string
    await founder.authority?.revoke([leafOf(ann.held.node).fingerprint], 'one')
    const newer = founder.trust.revocationsOf(before)
    // The home is restored from a backup of before the revocation; sync brings the list back.
    await restartFounder()
    await founder.trust.accept(newer?.bytes as Uint8Array)
    const list = await founder.authority?.revoke([leafOf(ann.held.publisher).fingerprint], 'two')
    expect(list?.sequence).toBe((newer?.sequence ?? 0) + 1)
    expect(list?.revoked.map(({ reason }) => reason).sort()).toEqual(['one', 'two'])
  })

  test('only an authority can', async () => {
    const { administration } = ann
    for (const work of [
      () => administration.revoke({ target: founder.peer }),
      () => administration.invite({}),
      () => administration.issued(),
      () => administration.issue({ request: '' }),
    ])
      await expect(work()).rejects.toMatchObject({
        code: 'capability-missing',
        message: expect.stringMatching(/no authority/),
      })
  })
})
