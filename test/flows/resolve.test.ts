import { beforeAll, describe, expect, it } from 'vitest'
import type { HeadStatement } from '../../src/assets/release.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { syncProtocol } from '../../src/distribution/sync.ts'
import { nameTopic } from '../../src/flows/name-topic.ts'
import { remove } from '../../src/flows/remove.ts'
import { type Release, resolve } from '../../src/flows/resolve.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { MemoryRouting } from '../../src/network/memory-router.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { type FlowNode, newSigner, node, packageOf } from './nodes.ts'

const network = new MemoryNetwork()
const routing = new MemoryRouting()
let signers: { alice: Signer; bob: Signer }
let alice: FlowNode
let bob: FlowNode
const byVersion = new Map<string, Release>()
let twin: Release

beforeAll(async () => {
  signers = { alice: await newSigner(), bob: await newSigner() }
  alice = node(network, signers.alice, routing)
  bob = node(network, signers.bob, routing)
  for (const version of ['1.0.0', '1.2.0', '1.10.0', '2.0.0-beta.1', '2.0.0'])
    byVersion.set(version, (await alice.publish(await packageOf('tool', version))).release)
  byVersion.set('early', (await alice.publish(await packageOf('early', '0.1.0-alpha.1'))).release)
  await alice.publish(await packageOf('both', '1.0.0'))
  twin = (await bob.publish(await packageOf('both', '1.5.0'))).release
  await alice.publish(await packageOf('constructor', '1.0.0'))
})

/** A fresh node that knows nothing and is connected to these. */
function stranger(...peers: readonly FlowNode[]): FlowNode {
  const carol = node(network, signers.alice, routing)
  carol.peers.push(...peers.map(({ peer }) => peer))
  return carol
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CatalogError ? error.code : String(error)),
  )

describe.each([
  ['here', () => alice],
  ['from a peer', () => stranger(alice)],
])('resolving %s', (_where, at) => {
  it.each([
    ['tool', '2.0.0'],
    ['tool@1.2.0', '1.2.0'],
    ['tool@^1.0.0', '1.10.0'],
    ['tool@~1.2.0', '1.2.0'],
    ['tool@<1.10.0', '1.2.0'],
    ['tool@2.0.0-beta.1', '2.0.0-beta.1'],
    ['tool@>=2.0.0-beta.0 <2.0.0', '2.0.0-beta.1'],
    ['tool@*', '2.0.0'],
    ['early', 'early'],
  ])('%s is %s', async (ref, version) => {
    expect((await at().resolve(ref)).id).toBe(byVersion.get(version)?.id)
  })

  it('a release id and a content root name the release', async () => {
    const wanted = byVersion.get('1.2.0') as Release
    expect((await at().resolve(wanted.id)).id).toBe(wanted.id)
    expect((await at().resolve(wanted.statement.root)).id).toBe(wanted.id)
  })

  it('a name that is also a built-in of the language is a name', async () => {
    expect((await at().resolve('constructor')).statement.name).toBe('constructor')
  })
})

describe('resolving', () => {
  it.each([
    ['nothing', 'not-found'],
    ['tool@3.0.0', 'not-found'],
    ['early@^1.0.0', 'not-found'],
    ['Tool', 'invalid-ref'],
    ['tool@', 'invalid-ref'],
    ['tool@one', 'invalid-ref'],
    [nameTopic('unknown'), 'not-found'],
  ])('%s: %s', async (ref, code) => {
    expect(await codeOf(stranger(alice).resolve(ref))).toBe(code)
  })

  it('says which versions exist where none matches', async () => {
    await expect(stranger(alice).resolve('tool@9')).rejects.toThrow(/1\.10\.0.*2\.0\.0/)
  })

  it('a name of several publishers is an error that lists them, until one is named or pinned', async () => {
    const carol = stranger(alice, bob)
    await carol.resolve('both', signers.alice.fingerprint)
    await carol.resolve('both', signers.bob.fingerprint)
    const publishers = [signers.alice.fingerprint, signers.bob.fingerprint].sort()
    await expect(carol.resolve('both')).rejects.toMatchObject({
      code: 'ambiguous-name',
      data: { publishers },
    })
    const pinned = { ...carol.resolving, pins: { both: signers.bob.fingerprint } }
    expect((await resolve(pinned, 'both')).id).toBe(twin.id)
    expect((await resolve(pinned, 'both', { publisher: signers.alice.fingerprint })).statement.version).toBe(
      '1.0.0',
    )
  })

  it('finds a holder whom only the DHT names, and a release whose record only the DHT has', async () => {
    const carol = stranger()
    expect(await codeOf(carol.resolve('tool'))).toBe('not-found')
    const { id, bytes } = byVersion.get('1.0.0') as Release
    await bob.router.putRecord({ kind: 'release', id }, bytes)
    expect(await codeOf(carol.resolve(id))).toBe('not-listed')
    const head = await alice.catalogue.head(signers.alice.fingerprint, 'tool')
    const key = { kind: 'head', publisher: signers.alice.fingerprint, name: 'tool' } as const
    await bob.router.putRecord(key, head?.bytes as Uint8Array)
    expect((await carol.resolve(id)).id).toBe(id)
    await alice.router.provide(nameTopic('tool'))
    expect((await carol.resolve('tool')).id).toBe(byVersion.get('2.0.0')?.id)
    await alice.router.unprovide(nameTopic('tool'))
  })

  it('brings an old version of a name with more versions than one question asks for', async () => {
    const dave = node(network, signers.alice, routing)
    for (let patch = 0; patch < 40; patch++) await dave.publish(await packageOf('long', `1.0.${patch}`))
    expect((await stranger(dave).resolve('long@1.0.3')).statement.version).toBe('1.0.3')
  })

  it('silent and hostile peers do not hide what another knows', async () => {
    const carol = stranger()
    for (let at = 0; at < 3; at++) {
      const silent = network.createHost()
      silent.handle(syncProtocol, () => new Promise(() => undefined), { maxInboundPerPeer: 9, maxInbound: 9 })
      carol.peers.push(silent.peer)
    }
    carol.peers.push('nobody', alice.peer)
    const started = performance.now()
    expect((await carol.resolve('tool')).statement.version).toBe('2.0.0')
    expect(performance.now() - started).toBeLessThan(2_000)
  })

  it('ends with the caller', async () => {
    const carol = stranger()
    const silent = network.createHost()
    silent.handle(syncProtocol, () => new Promise(() => undefined), { maxInboundPerPeer: 9, maxInbound: 9 })
    carol.peers.push(silent.peer)
    const leave = new AbortController()
    setTimeout(() => leave.abort(new CatalogError('cancelled', 'gone')), 50)
    const started = performance.now()
    expect(await codeOf(resolve(carol.resolving, 'tool', { signal: leave.signal }))).toBe('cancelled')
    expect(performance.now() - started).toBeLessThan(1_000)
  })

  it('what was removed here stays away, until it is asked for', async () => {
    const carol = stranger(alice)
    const release = await carol.resolve('tool@1.2.0')
    await remove(carol.removing, release)
    await carol.accept(release.bytes)
    expect(await carol.catalogue.release(release.id)).toBeUndefined()
    expect((await carol.resolve('tool@1.2.0')).id).toBe(release.id)
  })

  it('a head that passes off another release as its own is refused', async () => {
    const mallory = node(network, signers.bob, routing)
    const stolen = byVersion.get('1.0.0') as Release
    const statement: HeadStatement = {
      ...{ type: 'head', network: 'test', publisher: signers.bob.fingerprint, name: 'lure', sequence: 1 },
      ...{
        versions: [{ version: '1.0.0', id: stolen.id }],
        signedAt: Date.now(),
        expiresAt: Date.now() + 1e9,
      },
    }
    await mallory.catalogue.addHead(await mallory.publishing.seal(statement))
    await mallory.accept(stolen.bytes)
    expect(await codeOf(stranger(mallory).resolve('lure'))).toBe('bad-record')
  })
})

describe('who is surrounded by peers that keep news back', () => {
  it('hears it from a pinned peer, before an old head counts', async () => {
    const [keeper, surrounding] = [node(network, signers.bob, routing), node(network, signers.bob, routing)]
    const old = (await keeper.publish(await packageOf('kept-back', '1.0.0'))).release
    surrounding.peers.push(keeper.peer)
    expect((await surrounding.resolve('kept-back')).id).toBe(old.id)
    const young = (await keeper.publish(await packageOf('kept-back', '1.1.0'))).release
    const resolvesFor = async (pinned: readonly string[]) => {
      const carol = stranger(surrounding)
      const resolving = { ...carol.resolving, pinnedPeers: () => pinned }
      return (await resolve(resolving, 'kept-back')).id
    }
    expect(await resolvesFor([])).toBe(old.id)
    expect(await resolvesFor([keeper.peer])).toBe(young.id)
    // One that does not answer takes no more than its time.
    expect(await resolvesFor(['nobody'])).toBe(old.id)
  })
})
