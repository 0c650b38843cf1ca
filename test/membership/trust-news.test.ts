import { beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { TrustNews } from '../../src/membership/trust-news.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import type { Announcement } from '../../src/network/router.ts'
import { noticeOf, revocationNotice, TrustChain } from '../../src/trust/trust-chain.ts'
import { MemoryNotices } from '../trust/test-network.ts'
import { type Founding, foundForTest } from './founding.ts'

const hourMs = 3600 * 1000

let founding: Founding
beforeAll(async () => {
  founding = await foundForTest()
})

/** A node that believes what the founding gave it, in a DHT. */
async function member(routing: MemoryRouting, peer: string, now = Date.now) {
  const trust = new TrustChain(
    {
      notices: new MemoryNotices(),
      check: founding.check,
      now,
      log: silentLog,
    },
    { firstRoot: founding.root.bytes, network: founding.root.fingerprint },
  )
  await trust.start()
  await trust.accept(founding.revocations.bytes)
  const router = routing.createRouter(
    peer,
    async (key, value) => {
      if (key.kind !== 'notice' || noticeOf(value).key !== key.notice) throw new Error('no notice')
      await trust.accept(value)
    },
    (_key, values) => {
      const numbers = values.map(value => noticeOf(value).sequence)
      return numbers.indexOf(Math.max(...numbers))
    },
  )
  return { trust, router }
}

describe('news of the network’s trust in the DHT', () => {
  it('a list that a node should have heard of is found, proved and believed', async () => {
    const routing = new MemoryRouting()
    const later = () => Date.now() + 40 * hourMs
    const authority = await member(routing, 'authority', later)
    const issuer = founding.revocations.issuer
    const next = await founding.nextList({
      sequence: 2,
      issuedAt: later(),
      revoked: [founding.node.fingerprint],
    })
    await authority.trust.accept(next.bytes)
    await authority.router.putRecord({ kind: 'notice', notice: revocationNotice(issuer) }, next.bytes)

    const away = await member(routing, 'away', later)
    const news = new TrustNews({
      ...{ trust: away.trust, router: away.router, announcer: { add: async () => undefined } },
      ...{ authority: undefined, peers: () => ['authority'], now: later, log: silentLog },
    })
    expect(away.trust.revocationsOf(issuer)?.sequence).toBe(1)
    await news.look()
    expect(away.trust.revocationsOf(issuer)?.sequence).toBe(2)
    expect(away.trust.standingOf(founding.chains.node, { kind: 'any' })).toMatchObject({
      state: 'refused',
      code: 'certificate-revoked',
    })
  })

  it('an authority announces each new list, a node that is none announces nothing', async () => {
    const told: Announcement[] = []
    for (const authority of [founding.revocations.issuer, undefined]) {
      const { trust, router } = await member(new MemoryRouting(), 'alone')
      const news = new TrustNews({
        ...{ trust, router, announcer: { add: async (item: Announcement) => void told.push(item) } },
        ...{ authority, peers: () => [], now: Date.now, log: silentLog },
      })
      await news.start()
      await trust.accept((await founding.nextList({ sequence: 2, issuedAt: Date.now(), revoked: [] })).bytes)
      await news.stop()
    }
    const list = {
      kind: 'record',
      key: { kind: 'notice', notice: revocationNotice(founding.revocations.issuer) },
    }
    expect(told).toEqual([list, list])
  })
})
