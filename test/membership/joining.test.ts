// Joining by invite between two real hosts over loopback: what works, and what each attempt to cheat is answered with.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { joinProtocol } from '../../src/membership/join-protocol.ts'
import { JoinServer } from '../../src/membership/join-server.ts'
import { lookUpBy, type RedeemOptions, redeemInvite } from '../../src/membership/redeem-invite.ts'
import { encodeFrame, FrameReader } from '../../src/network/frames.ts'
import type { ByteStream, Host } from '../../src/network/host.ts'
import { Libp2pHost } from '../../src/network/libp2p-host.ts'
import { decodeChain } from '../../src/trust/certificate.ts'
import { decodeInvite, encodeInvite, type Invite } from '../../src/trust/invite.ts'
import type { RequestSigners } from '../../src/trust/request.ts'
import { signers } from '../trust/test-network.ts'
import {
  Clock,
  check,
  day,
  type Founded,
  found,
  founderOf,
  inviteBy,
  type Member,
  type MemberKeys,
  memberKeys,
  minute,
  networkName,
} from './members.ts'

let clock: Clock
let founded: Founded
let founder: Member
let keys: MemberKeys
let stopped: (() => Promise<void>)[]

beforeEach(async () => {
  clock = new Clock()
  founded = await found(clock)
  founder = await founderOf(founded, clock)
  keys = await memberKeys('node', 'publisher')
  stopped = [() => founder.stop()]
})
afterEach(async () => {
  for (const stop of stopped) await stop()
})

const invite = async (more: Parameters<Member['administration']['invite']>[0] = {}): Promise<Invite> =>
  decodeInvite((await founder.administration.invite(more)).invite)

/** A host that nobody has admitted yet. */
async function stranger(who: MemberKeys = keys): Promise<Host> {
  const nobody = {
    credential: () => {
      throw new Error('a stranger has no credential')
    },
    admit: async () => {
      throw new Error('a stranger admits nobody')
    },
  }
  const host = new Libp2pHost(
    { privateKey: who.nodeKey, admissions: nobody, log: silentLog },
    { listen: [], network: networkName },
  )
  await host.start()
  stopped.push(() => host.stop())
  return host
}

const signersOf = ({ node, publisher }: MemberKeys): RequestSigners => ({ node, publisher })
const redeem = async (made: Invite, options: Partial<RedeemOptions> = {}, who = keys, host?: Host) =>
  redeemInvite(host ?? (await stranger(who)), made, signersOf(who), { check, now: clock.now, ...options })

const refused = (work: Promise<unknown>, code: ErrorCode, words: RegExp) =>
  expect(work).rejects.toMatchObject({ code, message: expect.stringMatching(words) })

/** After whatever went wrong, an honest node gets in. */
async function anotherJoins(): Promise<void> {
  const other = await memberKeys('stranger', 'delegate')
  await expect(redeem(await invite(), {}, other)).resolves.toMatchObject({ roots: [founded.firstRoot] })
}

describe('joining', () => {
  test('gives a node its certificates, the roots and the lists', async () => {
    const made = await invite({ label: 'laboratory', roles: ['store'], capabilities: ['fetch'] })
    const joined = await redeem(made)
    const [node, publisher] = [decodeChain(joined.node)[0], decodeChain(joined.publisher)[0]]
    expect(node).toMatchObject({
      type: 'node',
      roles: ['store'],
      capabilities: ['fetch'],
      label: 'laboratory',
    })
    expect(node?.subject.falcon).toEqual(keys.node.publicKeys.falcon)
    expect(publisher).toMatchObject({ type: 'publisher', names: [], publisher: keys.publisher.fingerprint })
    expect(joined.roots).toEqual([founded.firstRoot])
    expect(joined.revocations).toHaveLength(1)
    const views = await founder.administration.issued()
    expect(
      views
        .filter(({ peer }) => peer === keys.peer)
        .map(({ type }) => type)
        .sort(),
    ).toEqual(['node', 'publisher'])
  })

  test('the same peer may come again, and gets the same certificates', async () => {
    const made = await invite()
    const first = await redeem(made)
    expect(await redeem(made)).toEqual(first)
  })

  test('who was revoked does not come back by the invite that it used, but by a new one', async () => {
    const made = await invite()
    await redeem(made)
    await founder.administration.revoke({ target: keys.peer, reason: 'left' })
    await refused(redeem(made), 'invite-used', /was used by this node before.*holds no more/)
    await expect(redeem(await invite())).resolves.toMatchObject({ roots: [founded.firstRoot] })
  })

  test('the same peer gets no certificates for other keys by the same invite', async () => {
    const made = await invite()
    await redeem(made)
    const other = await memberKeys('node', 'delegate')
    await refused(redeem(made, {}, other), 'invite-used', /for other keys/)
  })

  test('a second peer cannot use the invite', async () => {
    const made = await invite()
    await redeem(made)
    await refused(
      redeem(made, {}, await memberKeys('stranger', 'delegate')),
      'invite-used',
      /used by another node/,
    )
    await anotherJoins()
  })

  test('an expired invite is refused on both sides, with the times', async () => {
    const made = await invite({ expiresSeconds: 60 })
    clock.at += 2 * minute
    await refused(redeem(made), 'invite-expired', /expired at .* and here it is .*clock/)
    await refused(
      redeem({ ...made, expires: clock.at + day }),
      'invite-expired',
      /^The authority .* did not let this node join: The invite expired at/,
    )
    await anotherJoins()
  })

  test('a wrong secret and an unknown invite are the same to whoever guesses', async () => {
    const made = await invite()
    await refused(
      redeem({ ...made, secret: new Uint8Array(16) }),
      'invite-invalid',
      /not known here, or its secret is wrong/,
    )
    await refused(
      redeem({ ...made, id: new Uint8Array(8) }),
      'invite-invalid',
      /not known here, or its secret is wrong/,
    )
    await redeem(made)
  })

  test('who tries too often is refused without a look', async () => {
    const made = await invite()
    const host = await stranger()
    for (let attempt = 0; attempt < 5; attempt++)
      await refused(
        redeem({ ...made, secret: new Uint8Array(16) }, {}, keys, host),
        'invite-invalid',
        /secret/,
      )
    await refused(redeem(made, {}, keys, host), 'busy', /too many failed attempts/)
    clock.at += 11 * minute
    await redeem(made, {}, keys, host)
  })

  test('an invite for another root is refused, by the node that has it as well', async () => {
    const made = await invite()
    const other = await found(clock, 'root-2')
    await refused(redeem({ ...made, root: other.root }), 'certificate-wrong-network', /is for the network/)
    await redeem(made)
  })

  test('a clock that is a day off is told of on both sides', async () => {
    const made = await invite({ expiresSeconds: 3 * 24 * 3600 })
    for (const offset of [day, -day]) {
      const now = () => clock.at + offset
      await refused(
        redeem(made, { now }),
        'certificate-not-yet-valid',
        /did not let this node join: .*is a clock wrong\?/,
      )
    }
    expect(founder.log.lines.filter(line => /not let in.*is a clock wrong\?/.test(line))).toHaveLength(2)
    await redeem(made)
  })

  test('a joiner whose authority does not mind still notices the clock', async () => {
    const made = await invite()
    // The clock jumps between the request and the answer.
    let calls = 0
    const now = () => clock.at + (++calls > 2 ? day : 0)
    await refused(
      redeem(made, { now }),
      'certificate-not-yet-valid',
      /This node cannot join now: .*is a clock wrong\?/,
    )
  })

  test('a request that was overheard is of no use to another peer, nor with another authority', async () => {
    const made = await invite()
    const overheard = await requestTo(founder.peer, made)
    const thief = await stranger(await memberKeys('stranger', 'delegate'))
    expect(await raw(thief, overheard)).toMatchObject({
      error: { code: 'invite-invalid', message: expect.stringMatching(/by or for another node/) },
    })
    const misdirected = await requestTo(thief.peer, made)
    expect(await raw(await stranger(), misdirected)).toMatchObject({ error: { code: 'invite-invalid' } })
    await redeem(made)
  })

  test('somebody in the place of the authority learns nothing and is not believed', async () => {
    const made = await invite()
    const impostorKeys = await memberKeys('stranger', 'delegate')
    const impostor = new Libp2pHost(
      {
        privateKey: impostorKeys.nodeKey,
        admissions: { credential: () => new Uint8Array(1), admit: () => Promise.reject(new Error('no')) },
        log: silentLog,
      },
      { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'], network: networkName },
    )
    let seen: unknown
    impostor.handle(
      joinProtocol,
      async stream => {
        seen = await new FrameReader(stream).message(64 * 1024)
        await stream.write(encodeFrame({ answer: new Uint8Array(10), mac: new Uint8Array(32) }))
      },
      { maxInboundPerPeer: 2, maxInbound: 2, open: true },
    )
    await impostor.start()
    stopped.push(() => impostor.stop())
    const misled = { ...made, addresses: impostor.addresses() }
    await refused(redeem(misled), 'bad-peer-message', /not the authority that made it/)
    // What it has seen it hands to the real authority.
    expect(await raw(await stranger(impostorKeys), seen as Record<string, unknown>)).toMatchObject({
      error: { code: 'invite-invalid' },
    })
    expect(Buffer.from(encodeFrame(seen as Record<string, unknown>)).includes(Buffer.from(made.secret))).toBe(
      false,
    )
    // The next address is the real one.
    await redeem({ ...made, addresses: [...impostor.addresses(), ...made.addresses] })
  })

  test('an authority of another network that knows the secret gives nothing that is believed', async () => {
    const elsewhere = await found(clock, 'root-2')
    const keysThere = await memberKeys('region', 'delegate')
    const host = new Libp2pHost(
      {
        privateKey: keysThere.nodeKey,
        admissions: { credential: () => new Uint8Array(1), admit: () => Promise.reject(new Error('no')) },
        log: silentLog,
      },
      { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'], network: networkName },
    )
    const rogue = await founderOf(elsewhere, clock, { keys: keysThere, listen: [] })
    stopped.push(() => rogue.stop())
    // It says that it is of the network that the invite names, and answers with its own.
    const { authority, trust } = rogue
    if (authority === undefined) throw new Error('it has an authority')
    const pretends = {
      network: founded.root,
      roots: () => trust.roots(),
      revocationLists: () => trust.revocationLists(),
    }
    new JoinServer({
      host,
      authority,
      invites: rogue.invites,
      trust: pretends,
      check,
      now: clock.now,
      log: silentLog,
    })
    await host.start()
    stopped.push(() => host.stop())
    const made = { ...(await inviteBy(rogue)), root: founded.root, addresses: host.addresses() }
    await refused(redeem(made), 'root-not-trusted', /another network/)
  })

  test('keys that the joiner does not hold are not certified', async () => {
    const made = await invite()
    const stolen = {
      ...keys,
      publisher: {
        ...keys.publisher,
        fingerprint: 'x',
        publicKeys: signers.authority.publicKeys,
        sign: (message: Uint8Array) => keys.publisher.sign(message),
      },
    }
    await refused(
      redeem(made, {}, stolen as unknown as MemberKeys),
      'certificate-bad-signature',
      /holds its publisher keys/,
    )
  })

  test('a request that is too large, malformed or never comes ends', async () => {
    const made = await invite()
    const host = await stranger()
    expect(
      await raw(host, { invite: made.id, request: new Uint8Array(30_000), mac: new Uint8Array(32) }),
    ).toMatchObject({
      error: { code: 'bad-peer-message' },
    })
    expect(
      await raw(host, { invite: made.id, request: new Uint8Array(10), mac: new Uint8Array(31) }),
    ).toMatchObject({
      error: { code: 'certificate-malformed' },
    })
    await anotherJoins()
  })

  test('an authority that never answers is given up by the signal', async () => {
    const silent = await stranger(await memberKeys('region', 'delegate'))
    const made = await invite()
    const dead = { ...made, addresses: [`/ip4/127.0.0.1/udp/9/quic-v1/p2p/${silent.peer}`] }
    await expect(redeem(dead, { signal: AbortSignal.timeout(700) })).rejects.toThrow()
    await refused(
      redeem({ ...dead, addresses: [`/ip4/127.0.0.1/tcp/9/p2p/${silent.peer}`] }),
      'peer-unreachable',
      /.+/,
    )
  })

  test('a name in DNS leads there where the addresses fail', async () => {
    const made = await invite({ name: 'catalog.example.org' })
    const asked: string[] = []
    const lookUp: RedeemOptions['lookUp'] = async name => {
      asked.push(name)
      return made.addresses
    }
    await redeem({ ...made, addresses: [] }, { lookUp })
    expect(asked).toEqual(['catalog.example.org'])
    const nothing = lookUpBy({
      addressesOf: () => [],
      names: () => [{ name: 'catalog.example.org', problems: ['there is no such name'] }],
    })
    await refused(redeem({ ...made, addresses: [] }, { lookUp: nothing }), 'peer-unreachable', /no such name/)
  })
})

test('a slow joiner is cut off', async () => {
  await founder.stop()
  founder = await founderOf(founded, clock, { joining: { totalMs: 200 } })
  stopped[0] = () => founder.stop()
  const host = await stranger()
  const stream = await openJoin(host)
  await expect(new FrameReader(stream).message(1024 * 1024)).rejects.toThrow()
  await anotherJoins()
})

const openJoin = async (host: Host): Promise<ByteStream> => {
  const peer = await host.dial(founder.host.addresses()[0] as string, { joining: true })
  return host.open(peer, joinProtocol, { joining: true })
}

async function raw(host: Host, message: Record<string, unknown>): Promise<unknown> {
  const stream = await openJoin(host)
  await stream.write(encodeFrame(message))
  const answer = await new FrameReader(stream).message(2 * 1024 * 1024)
  await stream.close()
  await host.disconnect(founder.peer)
  return answer
}

/** What an honest joiner would send to this peer, taken off the wire. */
async function requestTo(peer: string, made: Invite): Promise<Record<string, unknown>> {
  let sent = new Uint8Array()
  const stream = {
    peer,
    write: async (bytes: Uint8Array) => {
      sent = bytes.slice()
    },
    read: async () => undefined,
    close: async () => undefined,
  } as unknown as ByteStream
  const tap = {
    peer: keys.peer,
    dial: async () => peer,
    open: async () => stream,
    disconnect: async () => undefined,
  } as unknown as Host
  await redeemInvite(tap, made, signersOf(keys), { check, now: clock.now }).catch(() => undefined)
  const chunks = [sent]
  const read = async () => chunks.shift()
  const message = await new FrameReader({ peer, read } as unknown as ByteStream).message(64 * 1024)
  return message as Record<string, unknown>
}

test('the line of an invite comes back as it went, and a damaged one says so', async () => {
  const made = await invite({ name: 'catalog.example.org' })
  const line = encodeInvite(made)
  expect(decodeInvite(` ${line.slice(0, 40)}\n${line.slice(40)}\n`)).toEqual(made)
})
