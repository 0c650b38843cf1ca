// The authority, its ledger and invites on their own: what is issued, what is refused, and what a crash leaves.
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import type { KeyValue, KeyValueWrite } from '../../src/base/key-value.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Authority } from '../../src/trust/authority.ts'
import { decodeInvite, encodeInvite } from '../../src/trust/invite.ts'
import { Invites } from '../../src/trust/invites.ts'
import { proveJoined } from '../../src/trust/joined.ts'
import {
  decodeMembershipFile,
  decodeRequest,
  encodeMembershipFile,
  encodeRequest,
  issueForRequest,
} from '../../src/trust/request.ts'
import { TrustChain } from '../../src/trust/trust-chain.ts'
import { Clock, check, day, type Founded, found, leafOf } from '../membership/members.ts'
import { idOf, keysOf, MemoryNotices, signers } from './test-network.ts'

let clock: Clock
let founded: Founded
let trust: TrustChain

beforeEach(async () => {
  clock = new Clock()
  founded = await found(clock)
  trust = new TrustChain(
    { notices: new MemoryNotices(), check, now: clock.now, log: silentLog },
    { firstRoot: founded.firstRoot, network: founded.root },
  )
  await trust.start()
})

const authorityOn = (
  records: KeyValue = new MemoryKeyValue(),
  chain = founded.authority,
  signer = signers.authority,
) => new Authority({ signer, chain, records, trust, now: clock.now, log: silentLog })

const node = { subject: keysOf('node'), roles: ['store'], capabilities: ['fetch'] } as const
const publisher = {
  subject: keysOf('publisher'),
  publisher: idOf('publisher'),
  names: ['acme/*'],
  rights: ['publish'],
} as const

describe('the authority', () => {
  test('issues for as long as each kind lives, never beyond its own end', async () => {
    const authority = authorityOn()
    expect(leafOf(await authority.issueNode(node))).toMatchObject({
      notBefore: clock.at - 5 * 60_000,
      notAfter: clock.at + 90 * day,
    })
    expect(leafOf(await authority.issuePublisher(publisher)).notAfter).toBe(clock.at + 1 + 365 * day)
    const end = authority.certificate.notAfter
    expect(leafOf(await authority.issuePublisher({ ...publisher, lifetimeMs: 10_000 * day })).notAfter).toBe(
      end,
    )
    clock.at = end - day
    expect(leafOf(await authority.issueNode(node)).notAfter).toBe(end)
    clock.at = end + 1
    await expect(authority.issueNode(node)).rejects.toMatchObject({ code: 'certificate-expired' })
  })

  test('refuses what its own certificate does not allow, and has nothing of it in the ledger', async () => {
    const chain = await authorityOn().issueAuthority({
      subject: keysOf('region'),
      maxPathLength: 0,
      issues: ['publisher'],
      names: ['acme/*'],
    })
    const region = authorityOn(new MemoryKeyValue(), [...chain], signers.region)
    await expect(region.issueNode(node)).rejects.toMatchObject({ code: 'certificate-wrong-issuer' })
    await expect(region.issuePublisher({ ...publisher, names: ['*'] })).rejects.toMatchObject({
      code: 'certificate-name-not-granted',
    })
    await expect(
      region.issueAuthority({ subject: keysOf('stranger'), maxPathLength: 0, issues: [], names: [] }),
    ).rejects.toMatchObject({
      code: 'certificate-wrong-issuer',
    })
    expect(await listed(region)).toEqual([])
    await region.issuePublisher(publisher)
    expect(await listed(region)).toHaveLength(1)
  })

  test('with keys that are not those of its certificate issues nothing', async () => {
    const pretender = authorityOn(new MemoryKeyValue(), [...founded.authority], signers.stranger)
    await expect(pretender.issueNode(node)).rejects.toMatchObject({ code: 'certificate-bad-signature' })
    expect(await listed(pretender)).toEqual([])
  })

  test('renews its list when a day has passed, and not before', async () => {
    const authority = authorityOn(undefined, undefined)
    await authority.start()
    const id = authority.certificate.fingerprint
    expect(trust.revocationsOf(id)).toMatchObject({ sequence: 1, expiresAt: clock.at + 30 * day })
    await authority.stop()
    clock.at += day - 1000
    await authority.start()
    expect(trust.revocationsOf(id)?.sequence).toBe(1)
    await authority.stop()
    clock.at += 1000
    await authority.start()
    expect(trust.revocationsOf(id)?.sequence).toBe(2)
    await authority.stop()
  })

  test('a full list leaves out what has expired on its own', async () => {
    const authority = authorityOn()
    const old = leafOf(await authority.issueNode({ ...node, lifetimeMs: day }))
    clock.at += 2 * day
    const filler = Array.from(
      { length: 999 },
      (_, at) =>
        `b${String(at)
          .padStart(55, 'a')
          .replaceAll(/[0189]/g, digit => 'xyzw'['0189'.indexOf(digit)] as string)}`,
    )
    // Reasons of the greatest length, in letters of three bytes, would not fit a thousand times.
    await authority.revoke([old.fingerprint, ...filler], 'ö€'.repeat(100))
    const list = await authority.revoke([leafOf(await authority.issueNode(node)).fingerprint], 'one more')
    expect(list.revoked).toHaveLength(1000)
    expect(list.revoked.map(({ certificate }) => certificate)).not.toContain(old.fingerprint)
    await expect(
      authority.revoke([leafOf(await authority.issueNode(node)).fingerprint], 'too many'),
    ).rejects.toMatchObject({ code: 'too-large' })
  })
})

async function listed(authority: Authority): Promise<string[]> {
  const found: string[] = []
  for await (const { certificate } of authority.issued()) found.push(certificate.fingerprint)
  return found
}

/** Writes fail at random, before or after they took effect: what a crash looks like to who writes. */
class Failing extends MemoryKeyValue {
  fails: () => 'before' | 'after' | undefined = () => undefined

  override put(key: string, value: Uint8Array): Promise<void> {
    return this.#unless(() => super.put(key, value))
  }

  override batch(writes: readonly KeyValueWrite[]): Promise<void> {
    return this.#unless(() => super.batch(writes))
  }

  async #unless(write: () => Promise<void>): Promise<void> {
    const when = this.fails()
    if (when === 'before') throw new Error('the disk failed')
    await write()
    if (when === 'after') throw new Error('the disk failed, after the write')
  }
}

test('whatever fails, what was handed out is in the ledger and what was revoked stays revoked', async () => {
  const step = fc.record({
    kind: fc.constantFrom('node', 'publisher', 'revoke', 'restart'),
    fails: fc.constantFrom(undefined, undefined, 'before', 'after'),
  } as const)
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async steps => {
      const records = new Failing()
      let authority = authorityOn(records)
      const handedOut = new Set<string>()
      const revoked = new Set<string>()
      for (const { kind, fails } of steps) {
        records.fails = () => fails
        try {
          if (kind === 'restart') authority = authorityOn(records)
          else if (kind === 'revoke') {
            const [victim] = handedOut
            if (victim === undefined) continue
            await authority.revoke([victim], 'test')
            revoked.add(victim)
          } else {
            const chain =
              kind === 'node' ? await authority.issueNode(node) : await authority.issuePublisher(publisher)
            handedOut.add(leafOf(chain).fingerprint)
          }
        } catch (error) {
          if (!String(error).includes('the disk failed')) throw error
        }
      }
      records.fails = () => undefined
      const after = authorityOn(records)
      await after.start()
      const entries = new Map<string, boolean>()
      for await (const { certificate, revoked: taken } of after.issued())
        entries.set(certificate.fingerprint, taken !== undefined)
      await after.stop()
      for (const fingerprint of handedOut) expect(entries.has(fingerprint)).toBe(true)
      for (const fingerprint of revoked) expect(entries.get(fingerprint)).toBe(true)
    }),
    { numRuns: 25 },
  )
})

describe('invites', () => {
  const grant = { roles: ['store'], capabilities: ['fetch'] } as const

  test('are used once, whoever comes at the same time', async () => {
    const invites = new Invites({ records: new MemoryKeyValue(), now: clock.now })
    const { id } = await invites.create(grant)
    const tries = await Promise.allSettled(['a', 'b', 'c'].map(peer => invites.redeem(id, peer)))
    expect(tries.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
    expect(await invites.redeem(id, 'a')).toEqual({ ...grant, usedBefore: clock.now() })
  })

  test('stay used over a restart', async () => {
    const records = new MemoryKeyValue()
    const { id } = await new Invites({ records, now: clock.now }).create(grant)
    await new Invites({ records, now: clock.now }).redeem(id, 'a')
    await expect(new Invites({ records, now: clock.now }).redeem(id, 'b')).rejects.toMatchObject({
      code: 'invite-used',
    })
  })

  test('are bounded in number and life, and make room when they are old', async () => {
    const invites = new Invites({ records: new MemoryKeyValue(), now: clock.now }, { maxInvites: 2 })
    await invites.create(grant)
    await invites.create(grant)
    await expect(invites.create(grant)).rejects.toMatchObject({ code: 'quota-exceeded' })
    await expect(invites.create({ ...grant, expiresMs: 31 * day })).rejects.toMatchObject({
      code: 'invalid-request',
    })
    clock.at += 9 * day
    await invites.create(grant)
  })

  test('no damaged line of one is taken', () => {
    const line = encodeInvite({
      network: 'test',
      root: founded.root,
      addresses: ['/ip4/192.0.2.1/udp/4414/quic-v1/p2p/12D3KooWabc'],
      id: new Uint8Array(8),
      secret: new Uint8Array(16),
      expires: clock.at,
    })
    expect(decodeInvite(line).root).toBe(founded.root)
    fc.assert(
      fc.property(
        fc.nat(line.length - 1),
        fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz234567-'),
        fc.boolean(),
        (at, letter, cut) => {
          const damaged = cut ? line.slice(0, at) : line.slice(0, at) + letter + line.slice(at + 1)
          if (damaged === line) return
          expect(() => decodeInvite(damaged)).toThrow(expect.objectContaining({ code: 'invite-invalid' }))
        },
      ),
      { numRuns: 2000 },
    )
    expect(() => decodeInvite('x'.repeat(1e6))).toThrow(expect.objectContaining({ code: 'invite-invalid' }))
  })
})

describe('a request by file', () => {
  const about = () => ({ root: founded.root, label: 'laboratory', time: clock.at })
  const who = { node: signers.node, publisher: signers.publisher }

  test('is answered with a membership that holds', async () => {
    const authority = authorityOn()
    await authority.start()
    const request = await decodeRequest(await encodeRequest(about(), { ...who, authority: signers.region }), {
      check,
    })
    const joined = await issueForRequest(
      request,
      { roles: ['authority', 'store'], capabilities: ['fetch'] },
      { authority, trust },
    )
    await authority.stop()
    const back = decodeMembershipFile(encodeMembershipFile(joined))
    expect(back).toEqual(joined)
    const keys = { node: keysOf('node'), publisher: keysOf('publisher'), authority: keysOf('region') }
    await proveJoined(back, founded.root, keys, { check, now: clock.now })
    await expect(
      proveJoined(back, founded.root, { ...keys, node: keysOf('stranger') }, { check, now: clock.now }),
    ).rejects.toMatchObject({
      code: 'certificate-wrong-usage',
    })
    const other = await found(clock, 'root-2')
    await expect(proveJoined(back, other.root, keys, { check, now: clock.now })).rejects.toMatchObject({
      code: 'root-not-trusted',
    })
  })

  test('for keys that its maker does not hold, of another network, or damaged is refused', async () => {
    const thief = {
      ...who,
      publisher: Object.assign(Object.create(signers.authority), {
        sign: (message: Uint8Array) => signers.publisher.sign(message),
      }),
    }
    await expect(decodeRequest(await encodeRequest(about(), thief), { check })).rejects.toMatchObject({
      code: 'certificate-bad-signature',
    })
    const foreign = await decodeRequest(await encodeRequest({ ...about(), root: idOf('stranger') }, who), {
      check,
    })
    await expect(
      issueForRequest(foreign, { roles: [], capabilities: [] }, { authority: authorityOn(), trust }),
    ).rejects.toMatchObject({
      code: 'certificate-wrong-network',
    })
    const text = await encodeRequest(about(), who)
    for (const damaged of [
      '',
      'catalog-request-v1 ',
      text.slice(0, 200),
      `${text}${text}`,
      text.replace('v1', 'v2'),
    ])
      await expect(decodeRequest(damaged, { check })).rejects.toMatchObject({ code: 'certificate-malformed' })
    const relabelled = Buffer.from(text.split(' ')[1] ?? '', 'base64url')
    relabelled.write('LAB', relabelled.indexOf('laboratory'))
    await expect(
      decodeRequest(`catalog-request-v1 ${relabelled.toString('base64url')}\n`, { check }),
    ).rejects.toMatchObject({
      code: 'certificate-bad-signature',
    })
  })
})
