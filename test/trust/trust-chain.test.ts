// What a node believes of its network while roots and revocation lists come in: in any order, again, late, forged.
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Log } from '../../src/base/log.ts'
import { silentLog } from '../../src/base/log.ts'
import type { AuthorityGrant, Certificate, NodeGrant, PublisherGrant } from '../../src/trust/certificate.ts'
import type { Usage } from '../../src/trust/chain.ts'
import { encodeDocument } from '../../src/trust/document.ts'
import type { RevocationBody, RevocationList } from '../../src/trust/revocation-list.ts'
import type { Root } from '../../src/trust/root.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'
import { TrustChain } from '../../src/trust/trust-chain.ts'
import {
  authority,
  bytesOf,
  day,
  goldenRoot,
  type Holder,
  idOf,
  keysOf,
  MemoryNotices,
  network,
  nextRoot,
  nodeCertificate,
  now,
  publisherCertificate,
  revocations,
} from './test-network.ts'

async function member(
  options: {
    notices?: MemoryNotices
    now?: () => number
    log?: Log
    check?: (check: SignatureCheck) => Promise<ReturnType<typeof faultySignature>>
  } = {},
) {
  const notices = options.notices ?? new MemoryNotices()
  let checks = 0
  const trust = new TrustChain(
    {
      notices,
      now: options.now ?? (() => now),
      log: options.log ?? silentLog,
      check: async check => {
        checks += 1
        return options.check === undefined ? faultySignature(check) : options.check(check)
      },
    },
    { firstRoot: goldenRoot.bytes, network },
  )
  await trust.start()
  return { trust, notices, checks: () => checks }
}

let top: Certificate<AuthorityGrant>
let node: Certificate<NodeGrant>
let publisher: Certificate<PublisherGrant>
let root2: Root
let root3: Root
let list1: RevocationList
let list2: RevocationList
let list3: RevocationList
const asNode: Usage = { kind: 'node', ed25519: keysOf('node').ed25519 }
const publishing: Usage = {
  kind: 'statement',
  publisher: idOf('publisher'),
  name: 'acme/tool',
  keys: keysOf('publisher'),
  rights: ['publish'],
}
const listOf = (sequence: number, revoked: readonly string[] = [], changes: Partial<RevocationBody> = {}) =>
  revocations(top, [top], {
    sequence,
    revoked: revoked.map(certificate => ({ certificate, at: now, reason: 'key stolen' })),
    ...changes,
  })

beforeAll(async () => {
  top = await authority()
  node = await nodeCertificate(top)
  publisher = await publisherCertificate(top)
  // Key 1 is lost: 2 and 3 make the next root, with 4 in its place; then 2 goes too.
  root2 = await nextRoot(
    goldenRoot,
    { keys: [keysOf('root-2'), keysOf('root-3'), keysOf('root-4')], carried: [top.fingerprint] },
    ['root-2', 'root-3'],
  )
  root3 = await nextRoot(root2, { keys: [keysOf('root-3'), keysOf('root-4'), keysOf('root-5')] }, [
    'root-3',
    'root-4',
  ])
  list1 = await listOf(1)
  list2 = await listOf(2, [node.fingerprint])
  list3 = await listOf(3, [node.fingerprint, publisher.fingerprint])
})

const chainOf = (...chain: readonly Certificate[]) => chain.map(({ bytes }) => bytes)

describe('roots', () => {
  it('follow each other with one old key lost each time, and what they carry on holds', async () => {
    const { trust } = await member()
    for (const root of [root2, root3]) {
      expect(await trust.accept(root.bytes)).toBe('added')
      expect(trust.root.version).toBe(root.version)
      await expect(trust.prove(chainOf(node, top), asNode)).resolves.toHaveLength(2)
    }
    expect(await trust.accept(root3.bytes)).toBe('known')
    expect(await trust.roots()).toEqual([goldenRoot.bytes, root2.bytes, root3.bytes])
  })

  it('wait for the one before them', async () => {
    const { trust, notices } = await member()
    expect(await trust.accept(root3.bytes)).toBe('waiting')
    expect(trust.root.version).toBe(1)
    // Unproved as it is, it is not kept.
    expect(notices.kept.size).toBe(0)
    expect(await trust.accept(root2.bytes)).toBe('added')
    expect(trust.root.version).toBe(3)
  })

  it('that wait and are forged do not spoil those that they wait for', async () => {
    const { trust } = await member()
    const forged = await nextRoot(root2, { keys: [keysOf('stranger')], threshold: 1 }, ['stranger'])
    expect(await trust.accept(forged.bytes)).toBe('waiting')
    expect(await trust.accept(root2.bytes)).toBe('added')
    expect(trust.root.version).toBe(2)
    expect(await trust.accept(root3.bytes)).toBe('added')
  })

  it('far ahead are not kept waiting', async () => {
    const { trust } = await member()
    const far = await nextRoot(goldenRoot, { version: 1000 }, ['root-1', 'root-2'])
    await expect(trust.accept(far.bytes)).rejects.toMatchObject({ code: 'root-not-trusted' })
  })

  it.each<[string, readonly Holder[]]>([
    ['only old keys', ['root-1', 'root-2', 'root-3']],
    ['only new keys', ['root-4', 'root-5']],
  ])('signed by %s are refused, and the honest one is taken', async (_, by) => {
    const { trust } = await member()
    const half = await nextRoot(goldenRoot, { keys: [keysOf('root-4'), keysOf('root-5')] }, by)
    await expect(trust.accept(half.bytes)).rejects.toMatchObject({ code: 'root-threshold' })
    expect(trust.root.version).toBe(1)
    expect(await trust.accept(root2.bytes)).toBe('added')
  })

  it('of keys that were stolen after they were replaced change nothing', async () => {
    const { trust } = await member()
    await trust.accept(root2.bytes)
    await trust.accept(root3.bytes)
    const thieves: Holder[] = ['root-1', 'root-2']
    const secondAgain = await nextRoot(goldenRoot, { notAfter: now + 9 * day }, thieves)
    await expect(trust.accept(secondAgain.bytes)).rejects.toMatchObject({ code: 'stale-record' })
    const fourth = await nextRoot(root3, { keys: [keysOf('root-1'), keysOf('root-2')] }, thieves)
    await expect(trust.accept(fourth.bytes)).rejects.toMatchObject({ code: 'root-threshold' })
    const theirs = await authority({}, thieves)
    await expect(trust.prove(chainOf(theirs), { kind: 'authority' })).rejects.toMatchObject({
      code: 'root-threshold',
    })
    expect(trust.root.fingerprint).toBe(root3.fingerprint)
  })

  it('replayed after their successors are stale', async () => {
    const { trust } = await member()
    await trust.accept(root2.bytes)
    await trust.accept(root3.bytes)
    for (const old of [goldenRoot, root2])
      await expect(trust.accept(old.bytes)).rejects.toMatchObject({ code: 'stale-record' })
    expect(trust.root.version).toBe(3)
  })

  it('that come twice at once with their successor end at the newest', async () => {
    const { trust } = await member({
      // The longer a check takes, the more comes in between.
      check: async check => {
        await sleep(5)
        return faultySignature(check)
      },
    })
    await Promise.allSettled([root3, root2, root2, root3, root2].map(({ bytes }) => trust.accept(bytes)))
    expect(trust.root.version).toBe(3)
  })

  it('revoke an authority, and everything below it falls', async () => {
    const { trust } = await member()
    await trust.prove(chainOf(node, top), asNode)
    await trust.accept(
      (await nextRoot(goldenRoot, { revoked: [top.fingerprint] }, ['root-1', 'root-2'])).bytes,
    )
    await expect(trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({
      state: 'refused',
      code: 'certificate-revoked',
    })
  })

  it('that carry an authority no further end it', async () => {
    const { trust } = await member()
    const without = await nextRoot(goldenRoot, { keys: [keysOf('root-3'), keysOf('root-4')] }, [
      'root-1',
      'root-3',
      'root-4',
    ])
    await trust.accept(without.bytes)
    await expect(trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({ code: 'root-threshold' })
  })

  it('that begin later leave what was signed before them', async () => {
    const { trust } = await member()
    await trust.accept(
      (await nextRoot(goldenRoot, { notBefore: now, carried: [top.fingerprint] }, ['root-1', 'root-2']))
        .bytes,
    )
    await expect(trust.prove(chainOf(publisher, top), publishing, now - 1000)).resolves.toHaveLength(2)
  })
})

describe('the first root of a home', () => {
  const start = (firstRoot: Uint8Array, expected: string) =>
    new TrustChain(
      {
        notices: new MemoryNotices(),
        now: () => now,
        log: silentLog,
        check: async check => faultySignature(check),
      },
      { firstRoot, network: expected },
    ).start()

  it('must be the one of the config, first and whole', async () => {
    await expect(start(goldenRoot.bytes, network)).resolves.toBeUndefined()
    await expect(start(goldenRoot.bytes, idOf('stranger'))).rejects.toMatchObject({
      code: 'root-not-trusted',
    })
    await expect(start(root2.bytes, network)).rejects.toMatchObject({ code: 'root-not-trusted' })
    const [first, second] = goldenRoot.signatures
    if (first === undefined || second === undefined) throw new Error('the golden root has two signatures')
    const bent = encodeDocument(goldenRoot.body, [{ ...first, falcon: second.falcon }, second])
    await expect(start(bent.bytes, network)).rejects.toMatchObject({ code: 'root-not-trusted' })
    const one = encodeDocument(goldenRoot.body, [first])
    await expect(start(one.bytes, network)).rejects.toMatchObject({ code: 'root-threshold' })
    await expect(start(Buffer.from('root'), network)).rejects.toMatchObject({ code: 'certificate-malformed' })
  })
})

describe('revocation lists', () => {
  it('end what they name, and what they do not name goes on', async () => {
    const { trust } = await member()
    await expect(trust.prove(chainOf(node, top), asNode)).resolves.toHaveLength(2)
    expect(await trust.accept(list2.bytes)).toBe('added')
    await expect(trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
      message: expect.stringContaining('key stolen'),
    })
    await expect(trust.prove(chainOf(publisher, top), publishing)).resolves.toHaveLength(2)
    expect(await trust.accept(list2.bytes)).toBe('known')
  })

  it('in any order end at the newest', async () => {
    for (const order of [
      [list1, list2, list3],
      [list3, list1, list2],
      [list2, list3, list1],
    ]) {
      const { trust } = await member()
      const outcomes = await Promise.allSettled(order.map(({ bytes }) => trust.accept(bytes)))
      expect(outcomes[0]?.status).toBe('fulfilled')
      expect(trust.revocationsOf(top.fingerprint)?.sequence).toBe(3)
    }
  })

  it('that come at once with newer ones never set those back', async () => {
    let turn = 0
    const { trust } = await member({
      check: async check => {
        // The first takes the longest: what comes later would overtake it.
        await sleep(Math.max(0, 30 - 10 * turn++))
        return faultySignature(check)
      },
    })
    await Promise.allSettled([list2, list3, list1].map(({ bytes }) => trust.accept(bytes)))
    expect(trust.revocationsOf(top.fingerprint)?.sequence).toBe(3)
    await expect(trust.prove(chainOf(publisher, top), publishing)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
  })

  it('replayed after newer ones are stale, and so is another of the same number', async () => {
    const { trust } = await member()
    await trust.accept(list3.bytes)
    const otherThird = await listOf(3, [])
    for (const old of [list1, list2, otherThird])
      await expect(trust.accept(old.bytes)).rejects.toMatchObject({ code: 'stale-record' })
    await expect(trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
  })

  it.each<[string, () => Promise<RevocationList>, string]>([
    ['of another network', () => listOf(9, [], { network: idOf('stranger') }), 'certificate-wrong-network'],
    [
      'by other keys',
      () => revocations(top, [top], { sequence: 9 }, 'stranger'),
      'certificate-bad-signature',
    ],
    [
      'from tomorrow',
      () => listOf(9, [], { issuedAt: now + day, expiresAt: now + 2 * day }),
      'certificate-not-yet-valid',
    ],
    [
      'of an authority of strangers',
      async () => {
        const theirs = await authority({}, ['root-4', 'root-5'])
        return revocations(theirs, [theirs], { sequence: 9 })
      },
      'root-threshold',
    ],
    [
      'of an authority that had expired',
      async () => {
        const old = await authority({ notAfter: now - 1 })
        return revocations(old, [old], { sequence: 9 })
      },
      'certificate-expired',
    ],
  ])('%s are refused, and the next honest one is taken', async (_, make, code) => {
    const { trust, notices } = await member()
    await expect(trust.accept((await make()).bytes)).rejects.toMatchObject({ code })
    expect(notices.kept.size).toBe(0)
    expect(await trust.accept(list1.bytes)).toBe('added')
  })

  it('of an authority that was revoked are refused', async () => {
    const { trust } = await member()
    await trust.accept(
      (await nextRoot(goldenRoot, { revoked: [top.fingerprint] }, ['root-1', 'root-2'])).bytes,
    )
    await expect(trust.accept(list1.bytes)).rejects.toMatchObject({ code: 'certificate-revoked' })
  })

  it('of one authority end nothing of another', async () => {
    const { trust } = await member()
    const other = await authority({ subject: keysOf('region') })
    const theirs = await revocations(
      other,
      [other],
      { revoked: [{ certificate: node.fingerprint, at: now, reason: 'spite' }] },
      'region',
    )
    expect(await trust.accept(theirs.bytes)).toBe('added')
    await expect(trust.prove(chainOf(node, top), asNode)).resolves.toHaveLength(2)
  })

  it('of an authority higher up end what stands below another', async () => {
    const { trust } = await member()
    const region = await authority({ subject: keysOf('region'), maxPathLength: 0 }, ['authority'], top)
    const below = await nodeCertificate(region, {}, ['region'])
    await trust.prove(chainOf(below, region, top), asNode)
    await trust.accept((await listOf(1, [below.fingerprint])).bytes)
    await expect(trust.prove(chainOf(below, region, top), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
  })

  it('or anything else that is neither root nor list is refused', async () => {
    const { trust } = await member()
    for (const bytes of [node.bytes, Buffer.from('x'), new Uint8Array(), new Uint8Array(200_000)])
      await expect(trust.accept(bytes)).rejects.toMatchObject({ code: 'certificate-malformed' })
  })
})

describe('standing', () => {
  it('is current while the lists of all authorities are', async () => {
    let clock = now
    const { trust } = await member({ now: () => clock })
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({ state: 'stale' })
    await trust.accept(list1.bytes)
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toEqual({ state: 'current' })
    clock = list1.expiresAt - 1
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toEqual({ state: 'current' })
    clock = list1.expiresAt
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({
      state: 'stale',
      since: list1.expiresAt,
      why: expect.stringContaining('cut off'),
    })
    const fresh = await listOf(2, [], { issuedAt: clock, expiresAt: clock + 30 * day })
    await trust.accept(fresh.bytes)
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toEqual({ state: 'current' })
  })

  it('is stale from the first end in its chain on', async () => {
    let clock = publisher.notAfter
    const { trust } = await member({ now: () => clock })
    await trust.accept((await listOf(1, [], { issuedAt: clock, expiresAt: clock + 30 * day })).bytes)
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toEqual({ state: 'current' })
    clock += 1
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({
      state: 'stale',
      since: publisher.notAfter,
    })
  })

  it('of what was revoked stays refused after it has expired', async () => {
    let clock = now
    const { trust } = await member({ now: () => clock })
    await trust.accept(list3.bytes)
    for (clock of [now, publisher.notAfter, publisher.notAfter + day])
      expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({
        state: 'refused',
        code: 'certificate-revoked',
      })
  })

  it('is refused for a name that was never granted, and for a clock before the chain', async () => {
    let clock = now
    const { trust } = await member({ now: () => clock })
    await trust.accept(list1.bytes)
    expect(trust.standingOf(chainOf(publisher, top), { ...publishing, name: 'other' })).toMatchObject({
      state: 'refused',
      code: 'certificate-name-not-granted',
    })
    clock = publisher.notBefore - 1
    expect(trust.standingOf(chainOf(publisher, top), publishing)).toMatchObject({
      state: 'refused',
      code: 'certificate-not-yet-valid',
    })
  })
})

describe('what was proved', () => {
  it('is not proved again, whoever shows it', async () => {
    const { trust, checks } = await member()
    const before = checks()
    await trust.prove(chainOf(node, top), asNode)
    // Two keys of the root on the authority, the authority on the node.
    expect(checks() - before).toBe(3)
    await trust.prove(chainOf(node, top), asNode)
    await trust.prove(chainOf(publisher, top), publishing)
    expect(checks() - before).toBe(4)
  })

  it('is looked at again for what can change: dates and revocation', async () => {
    let clock = now
    const { trust, checks } = await member({ now: () => clock })
    await trust.prove(chainOf(node, top), asNode)
    const before = checks()
    clock = node.notAfter + 1
    await expect(trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({
      code: 'certificate-expired',
    })
    expect(checks()).toBe(before)
  })

  it('does not vouch for a mutant of itself', async () => {
    const { trust } = await member()
    await trust.prove(chainOf(node, top), asNode)
    const [signature] = node.signatures
    if (signature === undefined) throw new Error('a certificate has a signature')
    const falcon = signature.falcon.slice()
    falcon[500] = (falcon[500] ?? 0) ^ 1
    const mutant = encodeDocument(node.body, [{ ...signature, falcon }])
    await expect(trust.prove([mutant.bytes, top.bytes], asNode)).rejects.toMatchObject({
      code: 'certificate-bad-signature',
    })
    await expect(trust.prove(chainOf(node, top), asNode)).resolves.toHaveLength(2)
  })

  it('was refused once is refused again: failures are not remembered as proofs', async () => {
    const { trust } = await member()
    const forged = await nodeCertificate(top, {}, ['stranger'])
    for (let round = 0; round < 2; round++)
      await expect(trust.prove(chainOf(forged, top), asNode)).rejects.toMatchObject({
        code: 'certificate-bad-signature',
      })
  })
})

describe('a restart', () => {
  it('believes what was believed before', async () => {
    const first = await member()
    for (const { bytes } of [root2, root3, list2]) await first.trust.accept(bytes)
    const again = await member({ notices: first.notices })
    expect(again.trust.root.fingerprint).toBe(root3.fingerprint)
    expect(again.trust.revocationsOf(top.fingerprint)?.fingerprint).toBe(list2.fingerprint)
    await expect(again.trust.prove(chainOf(node, top), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
    await expect(again.trust.accept(list1.bytes)).rejects.toMatchObject({ code: 'stale-record' })
    await expect(again.trust.accept(root2.bytes)).rejects.toMatchObject({ code: 'stale-record' })
  })

  it('does not believe what was changed on disk, says so, and goes on with the rest', async () => {
    const first = await member()
    for (const { bytes } of [root2, list2]) await first.trust.accept(bytes)
    const list = first.notices.kept.get(`revocations/${top.fingerprint}`) as Uint8Array
    list[list.length - 50] = (list[list.length - 50] ?? 0) ^ 1
    const warnings: string[] = []
    const again = await member({
      notices: first.notices,
      log: { ...silentLog, warn: (_, message) => void warnings.push(message) },
    })
    expect(warnings).toHaveLength(1)
    expect(again.trust.root.version).toBe(2)
    expect(again.trust.revocationsOf(top.fingerprint)).toBeUndefined()
  })
})

describe('listeners', () => {
  it('hear of each change once, and one that fails holds up nobody', async () => {
    const { trust } = await member()
    const heard: string[] = []
    trust.onChange(() => {
      throw new Error('broken')
    })
    const off = trust.onChange(change => void heard.push(change))
    await trust.accept(root2.bytes)
    await trust.accept(root2.bytes)
    await trust.accept(list1.bytes)
    expect(heard).toEqual(['root', 'renewed'])
    off()
    await trust.accept(list2.bytes)
    expect(heard).toHaveLength(2)
  })

  it('can tell by a digest whether anything came that takes something back', async () => {
    const { trust } = await member()
    const digests = [trust.digest()]
    for (const { bytes } of [list1, list2, root2]) {
      await trust.accept(bytes)
      digests.push(trust.digest())
    }
    const [first, renewed, revoked, rooted] = digests
    expect(renewed).toBe(first)
    expect(new Set([first, revoked, rooted]).size).toBe(3)
  })
})

describe('the golden network', () => {
  it('is believed as a whole', async () => {
    const { trust } = await member()
    const golden = (...names: readonly string[]) => names.map(bytesOf)
    await expect(trust.prove(golden('node', 'authority'), asNode)).resolves.toHaveLength(2)
    const delegated: Usage = { ...publishing, name: 'acme/tool-1', keys: keysOf('delegate') }
    await expect(trust.prove(golden('delegate', 'publisher', 'authority'), delegated)).resolves.toHaveLength(
      3,
    )
    await trust.accept(bytesOf('root-2'))
    await trust.accept(bytesOf('revocations'))
    await expect(trust.prove(golden('node', 'authority'), asNode)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
    await expect(trust.prove(golden('delegate', 'publisher', 'authority'), delegated)).rejects.toMatchObject({
      code: 'certificate-revoked',
    })
    await expect(trust.prove(golden('publisher', 'authority'), publishing)).resolves.toHaveLength(2)
  })
})
