// What a publisher says of its releases, and what other nodes make of it: yanks, deprecations, revocations, old heads,
// contradictions. Real keys, catalogues and flows; clocks and the standing of chains are the tests' to set.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { equivocationOf } from '../../src/assets/equivocation.ts'
import type { FreshnessStatement, HeadStatement } from '../../src/assets/release.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { validateRecord } from '../../src/flows/dht-records.ts'
import { healHead } from '../../src/flows/heal.ts'
import { marksReader } from '../../src/flows/marks.ts'
import { headLifetimeMs } from '../../src/flows/next-head.ts'
import { renewHeads } from '../../src/flows/renew.ts'
import { type Head, type ResolveOptions, resolution } from '../../src/flows/resolve.ts'
import type { Standing } from '../../src/flows/standing.ts'
import { deprecate, markVersion } from '../../src/flows/yank.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import type { EnvelopeSigner } from '../../src/trust/envelope.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { type FlowNode, networkName, newSigner, node, packageOf, verifier } from './nodes.ts'

const day = 24 * 3600 * 1000
let alice: Signer
let second: Signer
/** Another machine of Alice's publisher: its own keys, her id. */
let delegate: EnvelopeSigner
let reader: Signer

beforeAll(async () => {
  ;[alice, second, reader] = await Promise.all([newSigner(), newSigner(), newSigner()])
  const { publicKeys } = second
  delegate = {
    ...{ fingerprint: alice.fingerprint, chain: [new Uint8Array(8)], publicKeys },
    sign: message => second.sign(message),
  }
})
afterAll(() => Promise.all([alice.stop(), second.stop(), reader.stop()]))

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CatalogError ? error.code : String(error)),
  )

/** A publisher, and a reader that is connected to it; both have a clock and a standing that the test can set. */
function world() {
  const network = new MemoryNetwork()
  const routing = new MemoryRouting()
  const at = { now: Date.now(), standing: { state: 'current' } as Standing }
  const options = { now: () => at.now, standing: () => at.standing }
  const author = node(network, alice, routing)
  const bob = node(network, reader, routing, options)
  bob.peers.push(author.peer)
  const marking = { ...author.publishing, announceHead: async () => undefined }
  return { network, routing, at, author, bob, marking, options }
}

const resolving = (of: FlowNode, ref: string, options: ResolveOptions = {}) =>
  resolution(of.resolving, ref, options)
const headOf = async (of: FlowNode, name: string) =>
  (await of.catalogue.head(alice.fingerprint, name)) as Head
const publish = async (by: FlowNode, name: string, version: string, content?: string) =>
  (await by.publish(await packageOf(name, version, content))).release
/** Brings what the publisher says now to the reader. */
const tell = async (from: FlowNode, to: FlowNode, name: string) => {
  for (const bytes of await from.catalogue.recordsOf(name)) await to.accept(bytes).catch(() => undefined)
}

describe('a yanked version', () => {
  it('is chosen by no range, found by its exact version, id and root with a warning, and good again afterwards', async () => {
    const { author, bob, marking } = world()
    const old = await publish(author, 'tool', '1.0.0')
    const bad = await publish(author, 'tool', '1.1.0')
    const mark = { kind: 'yanked', reason: 'counts twice' } as const
    expect((await markVersion(marking, 'tool', '1.1.0', mark)).changed).toBe(true)
    expect((await markVersion(marking, 'tool', '1.1.0', mark)).changed).toBe(false)
    for (const ref of ['tool', 'tool@^1.0.0', 'tool@*'])
      expect((await resolving(bob, ref)).release.id).toBe(old.id)
    for (const ref of ['tool@1.1.0', bad.id, bad.statement.root]) {
      const { release, warnings } = await resolving(bob, ref)
      expect(release.id).toBe(bad.id)
      expect(warnings).toEqual(['tool@1.1.0 was yanked by its publisher: counts twice.'])
    }
    await expect(resolving(bob, 'tool@>=1.1.0')).rejects.toThrow(/1\.1\.0 would match and was yanked/)
    expect(await marksReader(bob.resolving)(entry(bad))).toEqual({ yanked: 'counts twice' })
    await markVersion(marking, 'tool', '1.1.0', { kind: 'not-yanked' })
    await tell(author, bob, 'tool')
    expect(await resolving(bob, 'tool')).toEqual({ release: bad, warnings: [] })
  })
})

describe('a revoked version', () => {
  it('is installed by nobody in no way, though it is here; it can be looked at', async () => {
    const { author, bob, marking } = world()
    const bad = await publish(author, 'tool', '1.1.0')
    await tell(author, bob, 'tool')
    await bob.accept(bad.bytes)
    await holdContent(author, bob, bad.statement.root)
    await markVersion(marking, 'tool', '1.1.0', { kind: 'revoked', reason: 'steals keys' })
    await expect(markVersion(marking, 'tool', '1.1.0', { kind: 'not-yanked' })).resolves.toMatchObject({
      changed: false,
    })
    await tell(author, bob, 'tool')
    for (const ref of ['tool', 'tool@1.1.0', 'tool@^1', bad.id, bad.statement.root])
      expect(await codeOf(resolving(bob, ref, { allowStale: true }))).toBe('release-revoked')
    const seen = await resolving(bob, bad.id, { purpose: 'look' })
    expect(seen.warnings[0]).toMatch(/steals keys/)
    const good = await publish(author, 'tool', '1.2.0')
    expect((await resolving(bob, 'tool')).release.id).toBe(good.id)
  })
})

describe('a deprecated package', () => {
  it('installs as before, with what its publisher says', async () => {
    const { author, bob, marking } = world()
    await publish(author, 'tool', '1.0.0')
    await deprecate(marking, 'tool', 'Use text-stats.')
    const { release, warnings } = await resolving(bob, 'tool')
    expect(warnings).toEqual(['tool is deprecated by its publisher: Use text-stats.'])
    expect(await marksReader(bob.resolving)(entry(release))).toEqual({ deprecated: 'Use text-stats.' })
    await deprecate(marking, 'tool', undefined)
    await publish(author, 'tool', '1.0.1')
    await tell(author, bob, 'tool')
    expect((await resolving(bob, 'tool')).warnings).toEqual([])
  })

  it('is its publisher’s own, and what is said is one short line', async () => {
    const { marking } = world()
    expect(await codeOf(deprecate(marking, 'nothing', 'x'))).toBe('not-found')
    for (const text of ['', ' ', 'a\nb', 'x'.repeat(501)])
      expect(await codeOf(Promise.resolve().then(() => deprecate(marking, 'nothing', text)))).toBe(
        'invalid-request',
      )
  })
})

describe('a release that no current head lists', () => {
  it('is not installed, though its record is here; its head is looked for first', async () => {
    const { author, bob, routing, network } = world()
    const release = await publish(author, 'tool', '1.0.0')
    bob.peers.length = 0
    await bob.accept(release.bytes)
    expect(await codeOf(resolving(bob, release.id))).toBe('not-listed')
    expect(await codeOf(resolving(bob, release.id, { allowStale: true }))).toBe('not-listed')
    expect(await marksReader(bob.resolving)(entry(release))).toEqual({ unlisted: true })
    bob.peers.push(author.peer)
    expect((await resolving(bob, release.id)).release.id).toBe(release.id)
    // And by the DHT alone.
    const carol = node(network, reader, routing)
    await carol.accept(release.bytes)
    const key = { kind: 'head', publisher: alice.fingerprint, name: 'tool' } as const
    await author.router.putRecord(key, (await headOf(author, 'tool')).bytes)
    expect((await resolving(carol, release.id)).release.id).toBe(release.id)
  })

  it('that was passed off as a listed version is not installed', async () => {
    const { author, bob } = world()
    await publish(author, 'tool', '1.0.0')
    const loose = await publish(node(new MemoryNetwork(), alice), 'tool', '1.0.0', 'other content')
    await bob.accept(loose.bytes)
    expect(await codeOf(resolving(bob, loose.id))).toBe('not-listed')
  })
})

describe('an old head', () => {
  it('installs nothing without --allow-stale; what is here is read on with a warning', async () => {
    const { author, bob, at } = world()
    const release = await publish(author, 'tool', '1.0.0')
    await resolving(bob, 'tool')
    const { expiresAt } = (await headOf(author, 'tool')).statement
    at.now = expiresAt
    for (const ref of ['tool', release.id, release.statement.root]) {
      await expect(resolving(bob, ref)).rejects.toMatchObject({
        code: 'stale-head',
        message: expect.stringMatching(/expired at .*--allow-stale/),
      })
      const { stale, warnings } = await resolving(bob, ref, { allowStale: true })
      expect([stale, warnings.length]).toEqual([{ since: expiresAt }, 1])
    }
    expect(await marksReader(bob.resolving)(entry(release))).toEqual({
      stale: new Date(expiresAt).toISOString(),
    })
    await holdContent(author, bob, release.statement.root)
    for (const ref of ['tool', release.id]) {
      const { stale, warnings } = await resolving(bob, ref)
      expect([stale, warnings.length]).toEqual([{ since: expiresAt }, 1])
    }
  })

  it('that comes late is kept where it is the newest, and a current one takes its place', async () => {
    const { author, bob, at } = world()
    await publish(author, 'tool', '1.0.0')
    at.now += 31 * day
    expect(await codeOf(resolving(bob, 'tool'))).toBe('stale-head')
    expect((await headOf(bob, 'tool')).statement.sequence).toBe(1)
    const later = node(new MemoryNetwork(), alice, new MemoryRouting(), { now: () => at.now })
    await tell(author, later, 'tool')
    await publish(later, 'tool', '1.1.0')
    await tell(later, bob, 'tool')
    await bob.accept(
      (await later.catalogue.release((await headOf(later, 'tool')).statement.versions[1]?.id as string))
        ?.bytes as Uint8Array,
    )
    expect((await resolving(bob, 'tool')).release.statement.version).toBe('1.1.0')
  })

  it('lives on by a freshness statement about it, and about no other', async () => {
    const { author, bob, at } = world()
    await publish(author, 'tool', '1.0.0')
    const head = await headOf(author, 'tool')
    await tell(author, bob, 'tool')
    const signedAt = head.statement.signedAt + 20 * day
    const statement = (of: Head): FreshnessStatement => ({
      ...{ type: 'freshness', network: networkName, publisher: alice.fingerprint, name: 'tool' },
      ...{ head: of.id, sequence: of.statement.sequence, signedAt, expiresAt: signedAt + headLifetimeMs },
    })
    at.now = signedAt
    const fresh = await author.publishing.seal(statement(head))
    await bob.accept(fresh.bytes)
    at.now = head.statement.expiresAt + 10 * day
    await bob.accept((await bob.catalogue.record(fresh.id)) as Uint8Array)
    bob.peers.length = 0
    await bob.accept(
      (await author.catalogue.release(head.statement.versions[0]?.id as string))?.bytes as Uint8Array,
    )
    expect((await resolving(bob, 'tool')).warnings).toEqual([])
    at.now = signedAt + headLifetimeMs
    expect(await codeOf(resolving(bob, 'tool'))).toBe('stale-head')
    const endless = await author.publishing.seal({ ...statement(head), expiresAt: signedAt + 31 * day })
    expect(await codeOf(bob.accept(endless.bytes))).toBe('bad-record')
  })

  it('is renewed by whoever may publish, and freshened by whoever may only freshen', async () => {
    const { author } = world()
    const { release } = await author.publish(await packageOf('tool', '1.0.0'))
    const first = await headOf(author, 'tool')
    let now = first.statement.signedAt + 16 * day
    const renewing = {
      ...author.publishing,
      now: () => now,
      catalogue: author.catalogue,
      announceHead: async () => undefined,
    }
    expect(await renewHeads({ ...renewing, signs: () => undefined })).toBe(0)
    expect(await renewHeads({ ...renewing, signs: () => 'freshness' })).toBe(1)
    expect(await renewHeads({ ...renewing, signs: () => 'freshness' })).toBe(0)
    expect((await headOf(author, 'tool')).id).toBe(first.id)
    expect((await author.catalogue.freshness(alice.fingerprint, 'tool'))?.statement).toMatchObject({
      head: first.id,
      expiresAt: now + headLifetimeMs,
    })
    now += day
    expect(await renewHeads({ ...renewing, signs: () => 'head' })).toBe(1)
    expect((await headOf(author, 'tool')).statement).toMatchObject({
      sequence: 2,
      previous: first.id,
      versions: [{ version: '1.0.0', id: release.id }],
    })
    expect(await author.catalogue.freshness(alice.fingerprint, 'tool')).toBeUndefined()
  })
})

describe('a chain', () => {
  it('that is refused now brings no head in, and makes one that is here count for nothing', async () => {
    const { author, bob, at } = world()
    const release = await publish(author, 'tool', '1.0.0')
    await resolving(bob, 'tool')
    at.standing = {
      state: 'refused',
      code: 'certificate-revoked',
      why: 'its certificate was revoked: stolen',
    }
    for (const ref of ['tool', release.id])
      expect(await codeOf(resolving(bob, ref, { allowStale: true }))).toBe('certificate-revoked')
    await holdContent(author, bob, release.statement.root)
    expect(await codeOf(resolving(bob, release.id))).toBe('certificate-revoked')
    await publish(author, 'tool', '1.1.0')
    expect(await codeOf(bob.accept((await headOf(author, 'tool')).bytes))).toBe('certificate-revoked')
    await bob.catalogue.dropHeads(() => true)
    expect(await codeOf(resolving(bob, 'tool'))).toBe('not-found')
    expect(await codeOf(resolving(bob, release.id))).toBe('certificate-revoked')
  })

  it('that nobody can vouch for, because this node is cut off, needs --allow-stale', async () => {
    const { author, bob, at } = world()
    const release = await publish(author, 'tool', '1.0.0')
    at.standing = { state: 'stale', why: 'this node has heard nothing of its authority', since: 5 }
    expect(await codeOf(resolving(bob, 'tool'))).toBe('stale-head')
    expect(await resolving(bob, 'tool', { allowStale: true })).toMatchObject({
      stale: { since: 5 },
      warnings: ['this node has heard nothing of its authority.'],
    })
    await holdContent(author, bob, release.statement.root)
    expect((await resolving(bob, 'tool')).stale).toEqual({ since: 5 })
  })
})

describe('a publisher that contradicts itself', () => {
  /** Two heads of one number, by one key: what each of two peers was shown. */
  async function contradiction(author: FlowNode) {
    const release = await publish(author, 'tool', '1.0.0')
    const shown = await headOf(author, 'tool')
    const other = await author.publishing.seal<HeadStatement>({ ...shown.statement, versions: [] })
    return { release, shown, other, proof: equivocationOf(shown, other) }
  }

  it('is held back wherever the two heads meet, with a sentence that names both', async () => {
    const { author, bob } = world()
    const { release, shown, other, proof } = await contradiction(author)
    await bob.accept(release.bytes)
    await bob.accept(shown.bytes)
    expect(await codeOf(bob.accept(other.bytes))).toBe('equivocation')
    for (const ref of ['tool', 'tool@1.0.0', release.id])
      await expect(resolving(bob, ref, { allowStale: true })).rejects.toMatchObject({
        code: 'equivocation',
        message: expect.stringContaining(`${proof.heads[0].id} and ${proof.heads[1].id}`),
        data: { proof: proof.id },
      })
    await holdContent(author, bob, release.statement.root)
    expect((await resolving(bob, release.id)).warnings[0]).toMatch(/held back/)
    expect(await codeOf(resolving(bob, 'tool'))).toBe('equivocation')
    expect(await marksReader(bob.resolving)(entry(release))).toMatchObject({ heldBack: true })
  })

  it('is found out by peers that were shown different heads, and known to who saw neither', async () => {
    const network = new MemoryNetwork()
    const { shown, other, proof } = await contradiction(node(new MemoryNetwork(), alice))
    const [one, two, third] = [1, 2, 3].map(() => node(network, reader)) as [FlowNode, FlowNode, FlowNode]
    await one.accept(shown.bytes)
    await two.accept(other.bytes)
    await one.host.dial(`/memory/${two.peer}`)
    await two.host.dial(`/memory/${third.peer}`)
    await one.sync.reconcileWith(two.peer)
    await third.sync.reconcileWith(two.peer)
    await third.sync.reconcileWith(one.peer).catch(() => undefined)
    await two.sync.reconcileWith(one.peer)
    await third.sync.reconcileWith(two.peer)
    for (const each of [one, two, third]) {
      const proofs = await each.catalogue.contradictions(alice.fingerprint, 'tool')
      expect(proofs.map(({ id }) => id)).toEqual([proof.id])
    }
  })

  it('cannot be accused with a proof that does not hold', async () => {
    const { author, bob } = world()
    const { shown, other, proof } = await contradiction(author)
    const forged = await node(new MemoryNetwork(), second).publishing.seal<HeadStatement>({
      ...other.statement,
      publisher: second.fingerprint,
    })
    const changed = Uint8Array.from(proof.bytes)
    changed[changed.length - 100] = (changed[changed.length - 100] as number) ^ 1
    expect(() => equivocationOf(shown, forged)).toThrow(/different names/)
    expect(() => equivocationOf(shown, shown)).toThrow(/say the same/)
    expect(await codeOf(bob.accept(changed))).toMatch(/^bad-/)
    expect(await bob.catalogue.contradictions(alice.fingerprint, 'tool')).toEqual([])
    await bob.accept(proof.bytes)
    expect(await bob.catalogue.contradictions(alice.fingerprint, 'tool')).toHaveLength(1)
  })

  it('is warned when it publishes on with the key that did it', async () => {
    const { author } = world()
    const { proof } = await contradiction(author)
    await author.accept(proof.bytes)
    const { warnings } = await author.publish(await packageOf('tool', '2.0.0'))
    expect(warnings.join()).toMatch(/held back on every node/)
    const healing = {
      ...author.publishing,
      ...{ signingKey: alice.publicKeys.ed25519, announceHead: async () => undefined, log: silentLog },
    }
    const { signal } = new AbortController()
    expect(await healHead(healing, 'tool', { graceMs: 0, signal })).toBe(false)
  })
})

describe('changed records', () => {
  it('of every kind are refused, and the honest ones are taken afterwards', async () => {
    const { author, bob } = world()
    await publish(author, 'tool', '1.0.0')
    const head = await headOf(author, 'tool')
    const other = await author.publishing.seal<HeadStatement>({ ...head.statement, versions: [] })
    const fresh = await author.publishing.seal<FreshnessStatement>({
      ...{ type: 'freshness', network: networkName, publisher: alice.fingerprint, name: 'tool' },
      ...{
        head: head.id,
        sequence: 1,
        signedAt: head.statement.signedAt,
        expiresAt: head.statement.expiresAt,
      },
    })
    const honest = [head.bytes, fresh.bytes, equivocationOf(head, other).bytes]
    for (const bytes of honest)
      for (let at = 0; at < bytes.byteLength; at += 31) {
        const changed = Uint8Array.from(bytes)
        changed[at] = (changed[at] as number) ^ (1 << (at % 8))
        expect(await codeOf(bob.accept(changed))).toMatch(/^bad-/)
      }
    expect(bob.catalogue.recordIds()).toEqual([])
    for (const bytes of honest) await bob.accept(bytes)
    expect(bob.catalogue.recordIds()).toHaveLength(3)
  })
})

describe('one publisher on two machines', () => {
  function machines() {
    const network = new MemoryNetwork()
    const pair = [alice, delegate].map(signer => node(network, signer)) as [FlowNode, FlowNode]
    return { network, pair }
  }

  it('the one that publishes next asks the other first, and builds on what it has', async () => {
    const { pair } = machines()
    const [one, two] = pair
    two.peers.push(one.peer)
    await publish(one, 'tool', '1.0.0')
    await publish(two, 'tool', '1.1.0')
    const head = await headOf(two, 'tool')
    expect(head.statement).toMatchObject({ sequence: 2, previous: (await headOf(one, 'tool')).id })
    expect(head.statement.versions.map(({ version }) => version)).toEqual(['1.0.0', '1.1.0'])
    expect(await codeOf(publish(two, 'tool', '1.0.0', 'other content'))).toBe('version-exists')
  })

  it('a head that comes while the next one is signed is built on, and nobody is accused', async () => {
    const { pair } = machines()
    const [one, two] = pair
    await publish(two, 'tool', '1.0.0')
    const theirs = await headOf(two, 'tool')
    const { addHead } = one.publishing.catalogue
    let first = true
    const late: typeof addHead = async (head, options) => {
      const isFirst = first
      first = false
      if (isFirst) await one.accept(theirs.bytes)
      return Catalogue.prototype.addHead.call(one.catalogue, head, options)
    }
    Object.assign(one.publishing.catalogue, { addHead: late })
    await publish(one, 'tool', '1.1.0')
    expect((await headOf(one, 'tool')).statement).toMatchObject({
      sequence: 2,
      previous: theirs.id,
      versions: [{ version: '1.0.0' }, { version: '1.1.0' }],
    })
    for await (const proof of one.catalogue.equivocations()) expect(proof).toBeUndefined()
  })

  it('a silent peer delays it by two seconds at most', async () => {
    const { pair, network } = machines()
    const silent = network.createHost()
    silent.handle('/sync/1', () => new Promise(() => undefined), { maxInboundPerPeer: 9, maxInbound: 9 })
    pair[0].peers.push(silent.peer)
    const started = performance.now()
    await publish(pair[0], 'tool', '1.0.0')
    expect(performance.now() - started).toBeLessThan(5_000)
  })

  it('that published at the same time are united by one of them, and nothing is lost', async () => {
    const { pair } = machines()
    const [one, two] = pair
    await publish(one, 'tool', '1.0.0')
    await publish(two, 'tool', '1.1.0')
    await tell(one, two, 'tool')
    await tell(two, one, 'tool')
    const keys = [alice.publicKeys.ed25519, second.publicKeys.ed25519]
    const { signal } = new AbortController()
    const heal = (at: 0 | 1, graceMs: number) =>
      healHead(
        {
          ...pair[at].publishing,
          ...{ signingKey: keys[at] as Uint8Array, announceHead: async () => undefined, log: silentLog },
        },
        'tool',
        { graceMs, signal },
      )
    const [first, later] =
      Buffer.compare(keys[0] as Uint8Array, keys[1] as Uint8Array) < 0 ? ([0, 1] as const) : ([1, 0] as const)
    // The one that waits sees the other's head meanwhile, and signs nothing.
    const waiting = heal(later, 500)
    expect(await heal(first, 60_000)).toBe(true)
    await tell(pair[first], pair[later], 'tool')
    expect(await waiting).toBe(false)
    for (const each of pair) {
      const { statement } = await headOf(each, 'tool')
      expect(statement.sequence).toBe(2)
      expect(statement.versions.map(({ version }) => version)).toEqual(['1.0.0', '1.1.0'])
      expect(await each.catalogue.contradictions(alice.fingerprint, 'tool')).toEqual([])
    }
  })
})

describe('the DHT', () => {
  it('refuses a head older than one that only passed by', async () => {
    const { author, bob } = world()
    await publish(author, 'tool', '1.0.0')
    const first = await headOf(author, 'tool')
    await publish(author, 'tool', '1.1.0')
    const later = await headOf(author, 'tool')
    const key = { kind: 'head', publisher: alice.fingerprint, name: 'tool' } as const
    const deps = {
      proving: {
        network: networkName,
        now: Date.now,
        verifier,
        standing: () => ({ state: 'current' }) as const,
      },
      takeNotice: async () => undefined,
      catalogue: bob.catalogue,
    }
    await validateRecord(deps, key, first.bytes)
    await validateRecord(deps, key, later.bytes)
    expect(await codeOf(validateRecord(deps, key, first.bytes))).toBe('stale-record')
    expect(await bob.catalogue.head(alice.fingerprint, 'tool')).toBeUndefined()
    const revoked = { state: 'refused', code: 'certificate-revoked', why: 'stolen' } as const
    const strict = { ...deps, proving: { ...deps.proving, standing: () => revoked } }
    expect(await codeOf(validateRecord(strict, key, later.bytes))).toBe('certificate-revoked')
  })
})

const entry = ({
  id,
  statement,
}: {
  id: string
  statement: { publisher: string; name: string; version: string }
}) => ({
  id,
  ...statement,
})

async function holdContent(from: FlowNode, to: FlowNode, root: string): Promise<void> {
  const open = await to.store.openPartial(root, (await from.store.indexBytes(root)) as Uint8Array)
  for (let at = 0; at < open.index.shards.length; at++)
    await open.put(at, (await from.store.readShard(root, at)) as Uint8Array)
  await open.complete()
}
