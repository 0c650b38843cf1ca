// The bytes of invites, joining and certificates questions: as they were written down, and what becomes of others.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encodeCbor } from '../../src/base/cbor.ts'
import { sha256 } from '../../src/base/hash.ts'
import {
  certificatesProtocol,
  identityMessage,
  readCertificatesQuestion,
  rotationMessage,
} from '../../src/membership/certificates-protocol.ts'
import {
  answerMac,
  decodeJoinAnswer,
  decodeJoinRequest,
  encodeJoinAnswer,
  encodeJoinRequest,
  joinProofMessage,
  joinProtocol,
  readJoinQuestion,
  requestMac,
} from '../../src/membership/join-protocol.ts'
import { redeemInvite } from '../../src/membership/redeem-invite.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import { decodeInvite, encodeInvite } from '../../src/trust/invite.ts'
import { provePossession } from '../../src/trust/possession.ts'
import { network as goldenNetwork, keysOf, signers } from '../trust/test-network.ts'
import {
  type Clock,
  check,
  inviteBy,
  leafOf,
  type Member,
  type MemberKeys,
  memberKeys,
  type SmallNetwork,
  smallNetwork,
} from './members.ts'

const vectors = JSON.parse(
  readFileSync(new URL('../vectors/membership-v1.json', import.meta.url), 'utf8'),
) as Record<string, string>

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

const invite = {
  network: 'main',
  root: goldenNetwork,
  addresses: ['/ip4/192.0.2.10/udp/4414/quic-v1/p2p/12D3KooWGolden'],
  name: 'catalog.example.org',
  id: filled(8, 1),
  secret: filled(16, 2),
  expires: 1_795_392_000_000,
}
const about = {
  root: goldenNetwork,
  joiner: '12D3KooWJoiner',
  responder: '12D3KooWAuthority',
  node: keysOf('node'),
  publisher: keysOf('publisher'),
}
const proof = { ed25519: filled(64, 3), falcon: filled(1280, 4) }
const rotation = { certificate: goldenNetwork, keys: keysOf('delegate'), old: proof, new: proof }
const retirement = { certificate: goldenNetwork, reason: 'laptop stolen' }

function made(): Record<string, string> {
  const request = encodeJoinRequest({
    ...about,
    time: 1_795_305_600_000,
    label: 'lab',
    nodeProof: proof,
    publisherProof: proof,
  })
  const mac = requestMac(invite.secret, invite.id, request)
  const answer = encodeJoinAnswer(1_795_305_600_000, filled(3, 5))
  return {
    invite: encodeInvite(invite),
    proofMessageSha256: hex(sha256(joinProofMessage(about, invite.id))),
    requestSha256: hex(sha256(request)),
    requestMac: hex(mac),
    answer: hex(answer),
    answerMac: hex(answerMac(invite.secret, mac, answer)),
    renew: hex(encodeFrame({ op: 'renew' })),
    deliver: hex(encodeFrame({ op: 'deliver', chain: [filled(2, 6), filled(2, 7)] })),
    identity: hex(encodeFrame({ op: 'identity', nonce: filled(16, 8) })),
    identityMessage: hex(identityMessage(goldenNetwork, '12D3KooWAsker', '12D3KooWAnswerer', filled(16, 8))),
    state: hex(encodeFrame({ op: 'state' })),
    rotateSha256: hex(sha256(encodeFrame({ op: 'rotate', ...rotation }))),
    rotationMessageSha256: hex(
      sha256(rotationMessage(goldenNetwork, '12D3KooWAsker', '12D3KooWAnswerer', rotation)),
    ),
    retire: hex(encodeFrame({ op: 'retire', ...retirement })),
  }
}

test('are those that were written down', () => {
  expect(made()).toEqual(vectors)
})

test('what was written is read again', () => {
  const request = { ...about, time: 1, label: 'lab', nodeProof: proof, publisherProof: proof }
  expect(decodeJoinRequest(encodeJoinRequest(request))).toEqual(request)
  expect(decodeJoinAnswer(encodeJoinAnswer(7, filled(3, 5)))).toEqual({ time: 7, joined: filled(3, 5) })
  expect(decodeInvite(encodeInvite(invite))).toEqual(invite)
  const question = { invite: filled(8, 1), request: filled(3, 2), mac: filled(32, 3) }
  expect(readJoinQuestion(question)).toEqual(question)
  for (const one of [
    { op: 'rotate', ...rotation },
    { op: 'retire', ...retirement },
    { op: 'retire', certificate: goldenNetwork },
  ])
    expect(readCertificatesQuestion(one)).toEqual(one)
})

describe('hostile bytes', () => {
  let small: SmallNetwork
  let clock: Clock
  let founder: Member
  let ann: Member
  let joiner: MemberKeys

  beforeEach(async () => {
    small = await smallNetwork()
    ;({ clock, founder, ann } = small)
    joiner = await memberKeys('stranger', 'delegate')
  })
  afterEach(() => small.stop())

  async function ask(
    from: Member['host'],
    protocol: string,
    bytes: Uint8Array,
  ): Promise<Message | undefined> {
    const joining = protocol === joinProtocol ? ({ joining: true } as const) : {}
    await from.dial(founder.host.addresses()[0] as string, joining)
    const stream = await from.open(founder.peer, protocol, joining)
    try {
      await stream.write(bytes)
      await stream.closeWrite()
      return await new FrameReader(stream).message(2 * 1024 * 1024)
    } catch {
      return undefined
    } finally {
      await stream.close().catch(() => undefined)
    }
  }

  /** Fields with other values, missing or more, and bytes that are no message at all. */
  const spoilt = (honest: Message) => {
    const other = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.string({ maxLength: 40 }),
      fc.nat(),
      fc.constant(null),
      fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 12 }),
    )
    return fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .record({
          field: fc.constantFrom(...Object.keys(honest), 'more'),
          value: fc.option(other, { nil: undefined }),
        })
        .map(({ field, value }) => {
          const { [field]: _, ...rest } = honest
          const left = field in honest && value === undefined
          return encodeFrame(left ? rest : { ...rest, [field]: value ?? 1 })
        }),
      fc.nat(1000).map(at => {
        const frame = encodeFrame(honest)
        frame[at % frame.byteLength] = (frame[at % frame.byteLength] ?? 0) ^ 0x41
        return frame
      }),
    )
  }

  /** Whatever becomes of a question of Ann's, it is answered with an error or not at all. */
  const everySpoiltFails = (honest: Message) =>
    fc.assert(
      fc.asyncProperty(spoilt(honest), async bytes => {
        // So that the limit of questions is not what is tested.
        clock.at += 10_000
        const answer = await ask(ann.host, certificatesProtocol, bytes)
        expect(answer ?? { error: {} }).toHaveProperty('error')
      }),
      { numRuns: 300 },
    )

  test('to join let nobody in, and an honest node joins afterwards', async () => {
    const line = await inviteBy(founder)
    const honest = { invite: line.id, request: filled(100, 1), mac: filled(32, 1) }
    const before = (await founder.administration.issued()).length
    let turn = 0
    await fc.assert(
      fc.asyncProperty(spoilt(honest), async bytes => {
        // Each from a peer of its own: nobody is held back for trying too often.
        const host = small.network.createHost(`memory-${turn++}`)
        const answer = await ask(host, joinProtocol, bytes)
        await host.stop()
        expect(answer?.['answer']).toBeUndefined()
      }),
      { numRuns: 300 },
    )
    expect(await founder.administration.issued()).toHaveLength(before)
    const host = small.network.createHost(joiner.peer)
    await redeemInvite(host, line, joiner, { check, now: clock.now })
  })

  test('about certificates change nothing', async () => {
    const [node, publisher] = [founder.held.node, founder.held.publisher]
    const honest = { op: 'deliver', chain: [...publisher] }
    await everySpoiltFails(honest)
    expect([founder.held.node, founder.held.publisher, founder.held.delegations]).toEqual([
      node,
      publisher,
      [],
    ])
    expect(await ask(ann.host, certificatesProtocol, encodeFrame(honest))).toEqual({ taken: 'publisher' })
  })

  test('about rotation certify nothing', async () => {
    const { fingerprint } = leafOf(ann.held.publisher)
    const keys = keysOf('region')
    const message = rotationMessage(small.founded.root, ann.peer, founder.peer, {
      certificate: fingerprint,
      keys,
    })
    const [old, fresh] = [
      await provePossession(ann.keys.publisher, message),
      await provePossession(signers.region, message),
    ]
    const honest = { op: 'rotate', certificate: fingerprint, keys, old, new: fresh }
    const before = (await founder.administration.issued()).length
    await everySpoiltFails(honest)
    expect(await founder.administration.issued()).toHaveLength(before)
    expect(await ask(ann.host, certificatesProtocol, encodeFrame(honest))).toHaveProperty('chain')
  })

  test('a member that asks without end is told to wait', async () => {
    const codes: unknown[] = []
    for (let at = 0; at < 62; at++) {
      const answer = await ask(ann.host, certificatesProtocol, encodeFrame({ op: 'state' }))
      codes.push((answer?.['error'] as { code?: string } | undefined)?.code)
    }
    expect(codes.filter(code => code === 'busy')).toHaveLength(2)
    clock.at += 61_000
    expect(await ask(ann.host, certificatesProtocol, encodeFrame({ op: 'state' }))).toHaveProperty('roots')
  })

  test('a crash of the authority in the middle of joining costs a second try, and no second member', async () => {
    const line = await inviteBy(founder)
    const host = small.network.createHost(joiner.peer)
    const ledger = founder.records.authority
    const batch = ledger.batch
    ledger.batch = async () => {
      throw new Error('the disk failed')
    }
    await expect(redeemInvite(host, line, joiner, { check, now: clock.now })).rejects.toMatchObject({
      code: 'internal',
      message: expect.not.stringContaining('disk'),
    })
    ledger.batch = batch
    const other = small.network.createHost((await memberKeys('region', 'publisher')).peer)
    await expect(
      redeemInvite(other, line, await memberKeys('region', 'publisher'), { check, now: clock.now }),
    ).rejects.toMatchObject({ code: 'invite-used' })
    await redeemInvite(host, line, joiner, { check, now: clock.now })
  })

  test('an encoding that is not canonical is refused', async () => {
    const host = small.network.createHost('memory-odd')
    const body = encodeCbor({ op: 'state' })
    // The map's head as one of two bytes: the same value, other bytes.
    const odd = new Uint8Array([body.byteLength + 1, 0xb8, 0x01, ...body.subarray(1)])
    expect(await ask(ann.host, certificatesProtocol, odd)).toBeUndefined()
    expect(await ask(host, joinProtocol, odd)).not.toHaveProperty('answer')
  })
})
