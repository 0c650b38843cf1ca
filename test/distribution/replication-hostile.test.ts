import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { encodeCbor } from '../../src/base/cbor.ts'
import { cidOf } from '../../src/base/cid.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import type { ReplicationDeps } from '../../src/distribution/replication/parts.ts'
import { rank } from '../../src/distribution/replication/placement.ts'
import { Replication } from '../../src/distribution/replication.ts'
import { replicateProtocol } from '../../src/distribution/replication-protocol.ts'
import { TransferServer } from '../../src/distribution/transfer-server.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import type { Host } from '../../src/network/host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { newSigner } from '../flows/nodes.ts'
import { publish, sample } from '../store/sample-content.ts'
import { hostile, never } from './peers.ts'
import { connectAll, type Keeper, keeper, keeping } from './replication-peers.ts'

let signer: Signer
beforeAll(async () => {
  signer = await newSigner()
}, 30_000)

const started: { kill(): Promise<unknown> }[] = []
afterEach(async () => {
  await Promise.all(started.splice(0).map(each => each.kill()))
})

const within = (check: () => Promise<void> | void) => vi.waitFor(check, { timeout: 10_000, interval: 20 })
const someCid = (text: string) => cidOf(Buffer.from(text))

async function ask(host: Host, peer: string, message: Message): Promise<Message | undefined> {
  const stream = await host.open(peer, replicateProtocol)
  await stream.write(encodeFrame(message))
  const answer = await new FrameReader(stream).message(1 << 20)
  await stream.close()
  return answer
}

const offerOf = (root: string, changes: Message = {}): Message => ({
  op: 'offer',
  ...{
    root,
    release: someCid('release'),
    size: 100,
    factor: 3,
    factorVersion: 1,
    origin: 'origin',
    holders: [],
  },
  ...changes,
})

const standing = (changes: Message = {}): Message => ({
  ...{
    state: 'whole',
    bytes: 100,
    draining: false,
    factor: 3,
    factorVersion: 1,
    origin: 'origin',
    holders: [],
  },
  ...changes,
})

/** A node whose records are taken for proved unless `bring` says otherwise, and that never gets any bytes. */
async function bareKeeper(network: MemoryNetwork, changes: Partial<ReplicationDeps> = {}) {
  const host = network.createHost('keeper')
  const store = new MemoryContentStore()
  const usage = async () => ({ ...(await store.usage()), freeBytes: 1_000_000 })
  const deps: ReplicationDeps = {
    ...{ host, records: new MemoryKeyValue(), log: silentLog },
    store: {
      state: root => store.state(root),
      index: root => store.index(root),
      check: (root, call) => store.check(root, call),
      usage,
    },
    bring: async () => undefined,
    pull: never,
    mend: never,
    knownPeers: () => [],
    ...changes,
  }
  const replication = new Replication(deps, { graceMs: 60_000, checkEveryMs: 60_000 })
  await replication.load()
  await replication.start()
  started.push({ kill: () => replication.stop() })
  return { host, store, replication, records: deps.records }
}

describe('the wire', () => {
  it('has the golden bytes', async () => {
    const vectors = JSON.parse(
      readFileSync(new URL('../vectors/replicate-v1.json', import.meta.url), 'utf8'),
    ) as { what: string; question: string; answer: string }[]
    const network = new MemoryNetwork()
    await bareKeeper(network, {
      bring: async ({ size }) => {
        if (size === 99) throw new CatalogError('not-found', 'no such release')
      },
    })
    const client = network.createHost('client')
    for (const { what, question, answer } of vectors) {
      const stream = await client.open('keeper', replicateProtocol)
      await stream.write(Buffer.from(question, 'hex'))
      const reader = new FrameReader(stream)
      const reply = (await reader.message(1 << 20)) as Message
      expect([what, Buffer.from(encodeFrame(reply)).toString('hex')]).toEqual([what, answer])
      await stream.close()
    }
    expect(vectors).toHaveLength(8)
  })

  it('survives whatever is sent, and answers honest peers afterwards', async () => {
    const network = new MemoryNetwork()
    const { replication } = await bareKeeper(network)
    const root = someCid('kept')
    const honest: Message[] = [
      offerOf(root),
      { op: 'meet', root, ...standing() },
      ...['check', 'release', 'leave'].map(op => ({ op, root })),
    ]
    const strange = fc.oneof(
      fc.anything({ maxDepth: 2, withNullPrototype: false }),
      fc.uint8Array({ maxLength: 300 }),
      fc.string({ maxLength: 300 }),
      fc.array(fc.string(), { maxLength: 40 }),
      fc.integer(),
    )
    const encoded = (message: Message): Uint8Array => {
      try {
        return encodeFrame(message)
      } catch {
        // Not everything has a CBOR form; then it is no input either.
        return encodeCbor(0)
      }
    }
    const field = fc.constantFrom('op', 'root', 'release', 'size', 'factor', 'factorVersion', 'origin')
    const more = fc.constantFrom('holders', 'state', 'bytes', 'draining', 'extra')
    const input = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc
        .tuple(fc.constantFrom(...honest), fc.oneof(field, more), strange)
        .map(([message, key, value]) => encoded({ ...message, [key]: value })),
      fc
        .tuple(fc.constantFrom(...honest), fc.nat({ max: 60 }))
        .map(([message, cut]) => encodeFrame(message).subarray(0, 1 + cut)),
    )
    await fc.assert(
      fc.asyncProperty(input, async bytes => {
        const host = network.createHost()
        const stream = await host.open('keeper', replicateProtocol)
        await stream.write(bytes).catch(() => undefined)
        await stream.closeWrite().catch(() => undefined)
        const reader = new FrameReader(stream)
        // It ends by itself: an answer, an end, or a reset; never silence.
        await reader.message(1 << 20).catch(() => undefined)
        stream.abort(new Error('done'))
      }),
      { numRuns: 1_000 },
    )
    const client = network.createHost()
    expect(await ask(client, 'keeper', { op: 'meet', root: someCid('other'), state: 'none' })).toEqual({
      state: 'none',
    })
    expect((await replication.status()).kept).toBeLessThanOrEqual(1)
  })
})

describe('offers', () => {
  it('of a release that nobody can prove cost little, keep nothing, and are soon refused unread', async () => {
    const network = new MemoryNetwork()
    const bring = vi.fn(async () => {
      throw new CatalogError('not-found', 'no such release')
    })
    const { replication } = await bareKeeper(network, { bring })
    const attacker = network.createHost()
    const reasons = new Map<unknown, number>()
    for (let number = 0; number < 200; number++) {
      const answer = await ask(attacker, 'keeper', offerOf(someCid(`garbage-${number}`)))
      reasons.set(answer?.['reason'], (reasons.get(answer?.['reason']) ?? 0) + 1)
    }
    expect(bring.mock.calls.length).toBeLessThan(80)
    expect([...reasons.keys()].sort()).toEqual(['busy', 'unwanted'])
    expect((await replication.status()).kept).toBe(0)
    // Another peer is not made to pay for it.
    const honest = network.createHost()
    bring.mockImplementation(async () => undefined as never)
    expect(await ask(honest, 'keeper', offerOf(someCid('good')))).toEqual({ code: 'accepted' })
  })

  it('hold room from the first word, so that many at once do not get more than there is', async () => {
    const network = new MemoryNetwork()
    const gate = Promise.withResolvers<void>()
    const { replication } = await bareKeeper(network, { bring: () => gate.promise })
    const answers = Array.from({ length: 30 }, (_, number) => {
      const host = network.createHost()
      return ask(host, 'keeper', offerOf(someCid(`large-${number}`), { size: 100_000 }))
    })
    await new Promise(resolve => setTimeout(resolve, 100))
    gate.resolve()
    const accepted = (await Promise.all(answers)).filter(answer => answer?.['code'] === 'accepted')
    // Half of a million free bytes is for others.
    expect(accepted).toHaveLength(5)
    expect((await replication.status()).forOthers.bytes).toBe(500_000)
  })

  it('of one peer do not take all that is kept for others', async () => {
    const network = new MemoryNetwork()
    await bareKeeper(network)
    const greedy = network.createHost()
    let accepted = 0
    for (let number = 0; number < 10; number++) {
      const answer = await ask(greedy, 'keeper', offerOf(someCid(`mine-${number}`), { size: 100_000 }))
      if (answer?.['code'] === 'accepted') accepted++
    }
    expect(accepted).toBe(3)
  })

  it('that lie about size or root of a signed release are refused', async () => {
    const network = new MemoryNetwork()
    const [alice, bob] = [await keeper(network, signer), await keeper(network, signer)]
    started.push(alice, bob)
    const { id, statement } = await alice.publish('true', 'x', 1)
    await connectAll([alice, bob])
    const { root, size } = statement
    for (const lie of [{ size: size - 1 }, { root: someCid('else') }])
      expect(await ask(alice.host, bob.peer, offerOf(root, { release: id, size, ...lie }))).toEqual({
        code: 'refused',
        reason: 'unwanted',
      })
    expect(await ask(alice.host, bob.peer, offerOf(root, { release: id, size }))).toEqual({
      code: 'accepted',
    })
  })
})

/** A node that accepts every offer, says that it has all, and gives false bytes. */
function liar(network: MemoryNetwork) {
  const claims = { checks: 0 }
  const { host, peer } = hostile(network, async (question, stream) => {
    const { id, op } = question
    if (op === 'have') return stream.write(encodeFrame({ id, code: 'ok', length: 0, complete: true }))
    const length = op === 'shards' ? 100_000 : 10
    await stream.write(encodeFrame({ id, code: 'ok', length, total: 10 }))
    await stream.write(new Uint8Array(length))
  })
  host.handle(
    replicateProtocol,
    async stream => {
      const message = (await new FrameReader(stream).message(1 << 20)) ?? {}
      if (message['op'] === 'check') claims.checks++
      const { op, root: _, ...theirs } = message
      const answer =
        op === 'offer'
          ? { code: 'accepted' }
          : op === 'meet'
            ? { ...theirs, state: 'whole', holders: [], draining: false }
            : {}
      await stream.write(encodeFrame(answer))
      await stream.close()
    },
    { maxInboundPerPeer: 64, maxInbound: 64 },
  )
  return { host, peer, claims }
}

async function threeKeepers(network: MemoryNetwork) {
  const nodes: Keeper[] = []
  for (let number = 0; number < 3; number++) nodes.push(await keeper(network, signer))
  started.push(...nodes)
  await connectAll(nodes)
  const { statement } = await (nodes[0] as Keeper).publish('wanted', 'w'.repeat(100_000))
  await within(async () => expect(await keeping(nodes, statement.root)).toHaveLength(3))
  return { nodes, root: statement.root }
}

describe('liars', () => {
  it('that claim copies are not counted: there are three honest ones in the end', async () => {
    const network = new MemoryNetwork()
    const nodes: Keeper[] = []
    for (let number = 0; number < 4; number++) nodes.push(await keeper(network, signer))
    started.push(...nodes)
    const liars = [liar(network), liar(network), liar(network)]
    await connectAll([...nodes, ...liars])
    // Who is asked for a copy follows from the ids: sooner or later it is a liar.
    for (let number = 0; number < 12 && liars.every(({ claims }) => claims.checks === 0); number++) {
      const { statement } = await (nodes[0] as Keeper).publish(
        `coveted-${number}`,
        `${number}`.repeat(50_000),
      )
      await within(async () => expect(await keeping(nodes, statement.root)).toHaveLength(3))
      await within(async () => {
        const state = await (nodes[0] as Keeper).replication.replicas(statement.root)
        const named = state?.peers.map(({ peer }) => peer) ?? []
        expect(liars.filter(({ peer }) => named.includes(peer))).toEqual([])
        expect(state?.copies).toBe(3)
      })
      // Nor is one listened to that was found out when it claims it again.
      const alice = nodes[0] as Keeper
      for (const { host, claims } of liars) {
        if (claims.checks === 0) continue
        await ask(host, alice.peer, { op: 'meet', root: statement.root, ...standing() })
        const state = await alice.replication.replicas(statement.root)
        expect(state?.peers.map(({ peer }) => peer)).not.toContain(host.peer)
      }
    }
    expect(liars.some(({ claims }) => claims.checks > 0)).toBe(true)
  }, 30_000)

  it('do not talk a holder into letting go, nor strangers into anything', async () => {
    const network = new MemoryNetwork()
    const { nodes, root } = await threeKeepers(network)
    const victim = nodes[1] as Keeper
    const crowd = Array.from({ length: 6 }, () => liar(network))
    await connectAll([victim, ...crowd])
    for (const { host } of crowd) {
      await ask(host, victim.peer, { op: 'release', root })
      await ask(host, victim.peer, { op: 'leave', root })
      await ask(host, victim.peer, { op: 'meet', root, ...standing({ factor: 1, factorVersion: 9 }) })
      await ask(host, victim.peer, { op: 'meet', root, ...standing({ factor: 1, factorVersion: 10 }) })
      await ask(host, victim.peer, { op: 'release', root })
    }
    // Cut off from the honest ones, it still does not believe the crowd.
    for (const each of nodes) if (each !== victim) network.cut(each.peer, victim.peer)
    for (const { host } of crowd) await ask(host, victim.peer, { op: 'release', root })
    await new Promise(resolve => setTimeout(resolve, 1_000))
    expect(await keeping(nodes, root)).toHaveLength(3)
    expect(await victim.replication.replicas(root)).toMatchObject({ factor: 3 })
  }, 30_000)

  it('in any number fill no memory: the holders of a content are bounded', async () => {
    const network = new MemoryNetwork()
    const { nodes, root } = await threeKeepers(network)
    const victim = nodes[0] as Keeper
    for (let number = 0; number < 100; number++) {
      const sybil = network.createHost()
      const holders = Array.from({ length: 32 }, (_, each) => `named-${number}-${each}`)
      await ask(sybil, victim.peer, { op: 'meet', root, ...standing({ holders }) })
      await ask(sybil, victim.peer, { op: 'meet', root, ...standing({ holders }) })
    }
    const state = await victim.replication.replicas(root)
    expect(state?.peers.length).toBeLessThanOrEqual(33)
    expect(await keeping(nodes, root)).toHaveLength(3)
    // Nobody of them answers: they are forgotten, and the honest copies are as they were.
    await within(async () => {
      const later = await victim.replication.replicas(root)
      expect(later?.peers.map(({ peer }) => peer).sort()).toEqual(nodes.map(({ peer }) => peer).sort())
    })
  }, 30_000)

  it('cannot make two holders leave at once: there are never fewer than the factor', async () => {
    const network = new MemoryNetwork()
    const { nodes, root } = await threeKeepers(network)
    const [a, b, c] = nodes as [Keeper, Keeper, Keeper]
    // So that all know of the new factor, and none has acted on it.
    await a.replication.setFactor(root, 2)
    for (const each of [b, c])
      await ask(a.host, each.peer, {
        ...{ op: 'meet', root },
        ...standing({ factor: 2, factorVersion: 2, origin: a.peer }),
      })
    const asked = [ask(a.host, b.peer, { op: 'release', root }), ask(a.host, c.peer, { op: 'release', root })]
    let fewest = 3
    for (const end = performance.now() + 1_000; performance.now() < end; ) {
      fewest = Math.min(fewest, (await keeping(nodes, root)).length)
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    await Promise.all(asked)
    expect(fewest).toBe(2)
  })
})

describe('a holder that serves its copy and does nothing else', () => {
  it('does not keep the others from acting, though it would be the first to', async () => {
    const network = new MemoryNetwork()
    const nodes: Keeper[] = []
    for (let number = 0; number < 4; number++) nodes.push(await keeper(network, signer))
    started.push(...nodes)
    const alice = nodes[0] as Keeper
    const { statement } = await alice.publish('idle', 'i'.repeat(100_000), 1)
    const { root, size } = statement
    const peers = nodes.map(({ peer }) => peer)
    const name = Array.from({ length: 1000 }, (_, number) => `idler-${number}`).find(
      each => rank(root, [each, ...peers])[0] === each,
    ) as string
    const host = network.createHost(name)
    new TransferServer({ host, store: alice.store, log: silentLog })
    host.handle(
      replicateProtocol,
      async stream => {
        const message = (await new FrameReader(stream).message(1 << 20)) ?? {}
        const claim = standing({ bytes: size, origin: alice.peer })
        await stream.write(encodeFrame(message['op'] === 'offer' ? { code: 'accepted' } : claim))
        await stream.close()
      },
      { maxInboundPerPeer: 64, maxInbound: 64 },
    )
    await connectAll([...nodes, { host, peer: name }])
    // Best in rank, the idler is the one that is asked; what it has, it shows.
    await alice.replication.setFactor(root, 2)
    await within(async () => expect((await alice.replication.replicas(root))?.copies).toBe(2))
    expect(await keeping(nodes, root)).toEqual([alice.peer])
    await alice.replication.setFactor(root, 4)
    await within(async () => expect(await keeping(nodes, root)).toHaveLength(3))
  })
})

describe('what is promised', () => {
  it('is owed from the moment that the offer is accepted, and after a restart before anything else', async () => {
    const network = new MemoryNetwork()
    const { replication, records } = await bareKeeper(network)
    const root = someCid('promised')
    const client = network.createHost()
    expect(replication.isOwed(root)).toBe(false)
    expect(await ask(client, 'keeper', offerOf(root))).toEqual({ code: 'accepted' })
    expect(replication.isOwed(root)).toBe(true)
    const pulled: string[] = []
    const again = new Replication({
      ...{ host: network.createHost(), records, log: silentLog },
      store: new MemoryContentStore(),
      ...{ bring: never, mend: never, knownPeers: () => [] },
      pull: async kept => void pulled.push(kept.root),
    })
    await again.load()
    expect(again.isOwed(root)).toBe(true)
    expect(await again.status()).toMatchObject({ kept: 1, forOthers: { count: 1, bytes: 100 } })
    // What had not come is gone on with.
    await again.start()
    started.push({ kill: () => again.stop() })
    await within(() => expect(pulled).toEqual([root]))
  })

  it('is given back where there is no room for it after all', async () => {
    const network = new MemoryNetwork()
    const pull = async () => {
      throw new CatalogError('no-space', 'the disk is full')
    }
    const { replication } = await bareKeeper(network, { pull })
    await ask(network.createHost(), 'keeper', offerOf(someCid('too much')))
    await within(async () => expect((await replication.status()).kept).toBe(0))
  })

  it('a copy that is found damaged does not count until it is mended', async () => {
    const network = new MemoryNetwork()
    const content = sample(7, 300_000)
    const mended = Promise.withResolvers<void>()
    const store = new MemoryContentStore()
    await publish(store, content)
    let bad = [1]
    const { replication, host } = await bareKeeper(network, {
      store: {
        state: root => store.state(root),
        index: root => store.index(root),
        usage: () => store.usage(),
        // What a disk that lost a shard says: the store in memory has no disk to damage.
        check: async () => bad,
      },
      mend: async () => {
        await mended.promise
        bad = []
      },
    })
    await replication.keep({ id: someCid('release'), root: content.root, size: content.bytes.byteLength })
    const coholder = network.createHost()
    const meet = () => ask(coholder, host.peer, { op: 'meet', root: content.root, ...standing() })
    expect(await meet()).toMatchObject({ state: 'whole' })
    await ask(coholder, host.peer, { op: 'check', root: content.root })
    await within(async () => expect(await meet()).toMatchObject({ state: 'coming' }))
    mended.resolve()
    await within(async () => expect(await meet()).toMatchObject({ state: 'whole' }))
  })
})
