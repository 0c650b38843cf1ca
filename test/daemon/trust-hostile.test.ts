// Members who lie about releases, and what a person sees of it: real daemons, beside a member that shows whatever
// records it likes, through sync and through the DHT.
import { cp, rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  decodeEnvelope,
  type Envelope,
  type HeadStatement,
  type ReleaseStatement,
  type Statement,
} from '../../src/assets/release.ts'
import { sealStatement } from '../../src/trust/envelope.ts'
import { connected, Laboratory, type TestNode, until } from './harness.ts'
import { HostileMember } from './hostile-member.ts'
import { keysOf, withHolder } from './membership.ts'

const laboratory = new Laboratory()

const hostile = async (node: TestNode, network: string) => {
  const member = await HostileMember.start(node.home, network)
  laboratory.endAfterTest({ end: () => member.stop() })
  return member
}

const publish = async (node: TestNode, name: string, version: string) =>
  node.client.publish({ path: await laboratory.package(name, version, { 'a.txt': `${name} ${version}` }) })
const known = async (node: TestNode) =>
  (await node.client.releases(false)).map(({ name, version }) => `${name}@${version}`).sort()
const knows = (node: TestNode, ref: string) =>
  until(`${ref} is known`, async () => (await known(node)).includes(ref), 20_000)
const logs = (node: TestNode, what: string) =>
  until(`the log says ${what}`, async () => node.errors.includes(what))

/** Signs anything as the publisher of a home, as whoever has its keys can. */
const seal = <S extends Statement>(home: string, ...statements: readonly S[]): Promise<Envelope<S>[]> =>
  withHolder(home, 'publisher', async ({ signer, chain }) => {
    const sign = (message: Uint8Array) => signer.sign(message)
    const own = { fingerprint: signer.fingerprint, publicKeys: signer.publicKeys, chain, sign }
    return Promise.all(statements.map(statement => sealStatement(statement, own)))
  })

/** A release and the head that lists it, made of a true one under another name, publisher or version. */
async function forge(
  home: string,
  like: ReleaseStatement,
  {
    name,
    version,
    listed = [],
    ...head
  }: Pick<HeadStatement, 'name' | 'sequence' | 'previous'> & {
    readonly version: string
    /** What the head before lists. */
    readonly listed?: HeadStatement['versions']
  },
): Promise<Uint8Array[]> {
  const { publisherKeys } = await keysOf(home)
  const { network, root, size, files, blake3, sha256, manifestPath } = like
  const signedAt = Date.now()
  const common = { network, publisher: publisherKeys.fingerprint, name, signedAt }
  const content = { version, root, size, files, blake3, sha256, manifestPath }
  const [release] = await seal<ReleaseStatement>(home, { type: 'release', ...common, ...content })
  const versions = [...listed, { version, id: String(release?.id) }]
  const expiresAt = signedAt + 3_600_000
  const [sealed] = await seal<HeadStatement>(home, { type: 'head', ...common, ...head, versions, expiresAt })
  return [release, sealed].map(envelope => (envelope as Envelope).bytes)
}

describe('a publisher that signs a name granted to another', () => {
  test('is refused by its own node, and by every other where it goes past it', async () => {
    const founder = await laboratory.node('granter', 'names')
    const liar = await laboratory.node('liar', 'names', { names: ['mine/*'] })
    const witness = await laboratory.node('witness', 'names')
    await laboratory.run(founder)
    await laboratory.run(witness, [founder])
    await laboratory.run(liar, [founder])
    const refused = await liar.run(
      'publish',
      await laboratory.package('acme/tool', '1.0.0', { 'a.txt': 'a' }),
      '--json',
    )
    expect(JSON.parse(refused.stderr)).toMatchObject({ error: { code: 'certificate-name-not-granted' } })
    expect(refused.stderr).toContain('its certificates grant mine/*')
    await publish(liar, 'mine/tool', '1.0.0')
    await Promise.all([knows(founder, 'mine/tool@1.0.0'), knows(witness, 'mine/tool@1.0.0')])
    await liar.end('SIGTERM')

    // The same keys, without the daemon's scruples.
    const member = await hostile(liar, 'names')
    const { id } = await founder.client.show('mine/tool')
    const like = await releaseOf(member, witness, id)
    const stolen = await forge(liar.home, like, { name: 'acme/tool', version: '1.0.0', sequence: 1 })
    const granted = await forge(liar.home, like, { name: 'mine/other', version: '1.0.0', sequence: 1 })
    member.show(...stolen, ...granted)
    await member.tell(witness.address)
    await member.tell(founder.address)
    await Promise.all([knows(founder, 'mine/other@1.0.0'), knows(witness, 'mine/other@1.0.0')])
    for (const node of [founder, witness]) {
      await logs(node, 'certificate-name-not-granted')
      expect(await known(node)).toEqual(['mine/other@1.0.0', 'mine/tool@1.0.0'])
    }
    const head = stolen[1] as Uint8Array
    const { publisher } = decodeEnvelope(head).statement
    expect(await member.put({ kind: 'head', publisher, name: 'acme/tool' }, head)).toBe(0)
    const missing = await witness.run('fetch', 'acme/tool')
    expect(missing.stderr).toContain('No release matches acme/tool')
    // The name is still its holder's.
    await publish(founder, 'acme/tool', '1.0.0')
    await knows(witness, 'acme/tool@1.0.0')
    expect((await witness.fetch('acme/tool')).version).toBe('1.0.0')
  }, 120_000)
})

async function releaseOf(member: HostileMember, node: TestNode, id: string): Promise<ReleaseStatement> {
  const bytes = await member.record(node.address, id)
  return decodeEnvelope(bytes).statement as ReleaseStatement
}

describe('an old head', () => {
  test('is not believed again, whether sync or the DHT brings it', async () => {
    const publisher = await laboratory.node('publisher', 'replays')
    const node = await laboratory.node('node', 'replays')
    const bad = await laboratory.node('bad', 'replays')
    await laboratory.run(publisher)
    await laboratory.run(node, [publisher])
    await publish(publisher, 'replayed', '1.0.0')
    await knows(node, 'replayed@1.0.0')
    const member = await hostile(bad, 'replays')
    const [old] = await member.heads(publisher.address, 'replayed')
    await publisher.client.yank({ ref: 'replayed@1.0.0', reason: 'it has a hole', revoke: true })
    await publish(publisher, 'replayed', '1.1.0')
    const isNew = async () => (await node.client.show('replayed')).sequence === 3
    await until('the third head is known', async () => (await known(node)).length === 2 && (await isNew()))

    member.show(old as Uint8Array)
    await member.tell(node.address)
    await logs(node, 'Head 1 of replayed is refused: head 3 is known.')
    const key = {
      kind: 'head',
      publisher: (await node.client.show('replayed')).publisher,
      name: 'replayed',
    } as const
    expect(await member.put(key, old as Uint8Array)).toBe(0)
    expect(await isNew()).toBe(true)
    const fetched = await node.run('fetch', 'replayed@1.0.0')
    expect(fetched.stderr).toContain(
      'was revoked by its publisher and is not installed any more: it has a hole.',
    )
    expect((await node.fetch('replayed')).version).toBe('1.1.0')
    // It may show the new one as well.
    const [honest] = await member.heads(publisher.address, 'replayed')
    expect(await member.put(key, honest as Uint8Array)).toBeGreaterThan(0)
  }, 90_000)

  test('from a restored backup does no harm: what was published since is found again, and united', async () => {
    const founder = await laboratory.node('keeper', 'backups')
    const publisher = await laboratory.node('restored', 'backups')
    await laboratory.run(founder)
    await laboratory.run(publisher, [founder])
    const restore = await publishedPastBackup(publisher, founder)

    // With others in reach, the publisher learns what it had signed, and goes on from there.
    await restore()
    await laboratory.run(publisher, [founder])
    await connected(publisher, founder)
    await publish(publisher, 'kept', '1.2.0')
    await knows(founder, 'kept@1.2.0')
    const shown = await founder.client.show('kept@1.2.0')
    expect(shown).toMatchObject({ versions: ['1.0.0', '1.1.0', '1.2.0'], sequence: 3 })

    // Alone, it signs a head that others are past.
    await restore()
    await laboratory.run(publisher)
    await publish(publisher, 'kept', '2.0.0')
    await publisher.end('SIGTERM')
    await laboratory.run(publisher, [founder])
    await knows(founder, 'kept@2.0.0')
    const all = ['1.0.0', '1.1.0', '1.2.0', '2.0.0']
    await until(
      'all versions are listed',
      async () => `${(await founder.client.show('kept')).versions}` === `${all}`,
      20_000,
    )
    expect((await founder.fetch('kept')).version).toBe('2.0.0')
  }, 120_000)

  test('from a restored backup is a contradiction where another was signed under its number, until the keys are changed', async () => {
    const founder = await laboratory.node('judge', 'doubles')
    await laboratory.run(founder)
    const publisher = await granted(founder, 'double', 'kept')
    const restore = await publishedPastBackup(publisher, founder)
    await restore()
    // Nobody is there to tell it.
    await founder.end('SIGTERM')
    await laboratory.run(publisher)
    await publish(publisher, 'kept', '2.0.0')
    await laboratory.run(founder, [publisher])

    const out = await laboratory.path('doubles-out')
    const fetched = () => founder.run('fetch', 'kept', '--out', out)
    await until(
      'the name is held back',
      async () => (await fetched()).stderr.includes('is held back'),
      // A record that a busy node could not take comes again with the next round, a minute later.
      75_000,
    )
    const { stderr, code } = await fetched()
    expect(stderr).toMatch(/its publisher signed two different heads under number 2/)
    expect(code).toBe(7)
    expect((await founder.run('list')).stdout).toContain('held back')
    await logs(publisher, 'heads that contradict each other were signed with the key of this node: rotate it')

    await publisher.json('trust', 'rotate', 'publisher')
    const all = ['1.0.0', '1.1.0', '2.0.0']
    await until(
      'all versions are listed',
      async () => `${(await founder.client.show('kept')).versions}` === `${all}`,
      20_000,
    )
    expect((await fetched()).code).toBe(0)
    expect((await founder.run('list')).stdout).not.toContain('held back')
  }, 180_000)
})

/** A home as it is now, to be put in the place of what it has become. */
async function backupOf(node: TestNode): Promise<() => Promise<void>> {
  const backup = await laboratory.copy(node.home, `backup-of-${basename(node.home)}`)
  return async () => {
    await node.end('SIGTERM')
    await rm(node.home, { recursive: true })
    await cp(backup, node.home, { recursive: true })
  }
}

/** Publishes two versions of `kept` that the other node knows; gives what brings back the home as it was between them. */
async function publishedPastBackup(publisher: TestNode, other: TestNode): Promise<() => Promise<void>> {
  await publish(publisher, 'kept', '1.0.0')
  await knows(other, 'kept@1.0.0')
  await publisher.end('SIGTERM')
  const restore = await backupOf(publisher)
  await laboratory.run(publisher, [other])
  await publish(publisher, 'kept', '1.1.0')
  await knows(other, 'kept@1.1.0')
  return restore
}

/** A running node that joined and was granted a name, as the authority's ledger knows. */
async function granted(authority: TestNode, name: string, pattern: string): Promise<TestNode> {
  const node = await laboratory.joined(name, authority)
  await authority.json('trust', 'grant', pattern, '--to', node.peerId)
  return node
}

describe('a stolen publisher key', () => {
  test('is worth nothing to a node that was away, from its first sync with an honest one on', async () => {
    const founder = await laboratory.node('authority', 'thefts')
    const thief = await laboratory.node('thief', 'thefts', { names: [] })
    const away = await laboratory.node('away', 'thefts', { names: [] })
    await laboratory.run(founder)
    const victim = await granted(founder, 'victim', 'acme/*')
    await laboratory.run(away, [founder])
    await publish(victim, 'acme/tool', '1.0.0')
    await Promise.all([knows(founder, 'acme/tool@1.0.0'), knows(away, 'acme/tool@1.0.0')])
    await away.end('SIGTERM')

    // The thief has a copy of the victim's publisher keys, and a membership of its own.
    const member = await hostile(thief, 'thefts')
    const [head] = await member.heads(founder.address, 'acme/tool')
    const like = await releaseOf(member, founder, (await founder.client.show('acme/tool')).id)
    const previous = decodeEnvelope(head as Uint8Array)
    const { versions, sequence } = previous.statement as HeadStatement
    const evil = await forge(victim.home, like, {
      ...{ name: 'acme/tool', version: '1.0.1', sequence: sequence + 1, previous: previous.id },
      listed: versions,
    })
    // The authority takes the certificate back, and lets the publisher's node have one for new keys.
    const stolen = await withHolder(
      victim.home,
      'publisher',
      async ({ certificate }) => certificate.fingerprint,
    )
    await founder.json('trust', 'revoke', stolen, '--reason', 'key stolen', '--allow-rotation')
    await until('its publisher knows', async () =>
      (await victim.run('trust', 'show')).stdout.includes('key stolen'),
    )
    const late = await laboratory.package('acme/tool', '1.1.0', { 'a.txt': 'honest' })
    expect((await victim.run('publish', late)).stderr).toContain('it was revoked (key stolen)')
    expect((await victim.run('trust', 'can', 'publish', 'acme/tool')).stdout).toMatch(/^No:[\s\S]*key stolen/)
    await victim.json('trust', 'rotate', 'publisher')
    await victim.json('publish', late)
    await knows(founder, 'acme/tool@1.1.0')
    await founder.fetch('acme/tool')
    // At another address than the one that the absent node remembers.
    await victim.end('SIGTERM')
    await founder.end('SIGTERM')
    await laboratory.run(founder)

    // Nobody but the thief is there to ask.
    await laboratory.run(away)
    member.show(...evil)
    await member.tell(away.address)
    await knows(away, 'acme/tool@1.0.1')

    await away.end('SIGTERM')
    await laboratory.run(away, [founder])
    await knows(away, 'acme/tool@1.1.0')
    const evilId = decodeEnvelope(evil[0] as Uint8Array).id
    const out = await laboratory.path('evil')
    const byVersion = await away.run('fetch', 'acme/tool@1.0.1', '--out', out)
    expect(byVersion.stderr).toContain('No release matches acme/tool@1.0.1')
    const byId = await away.run('fetch', evilId, '--out', out)
    expect(byId.stderr).toMatch(/acme\/tool@1\.0\.1\) is not installed: .*it was revoked \(key stolen\)/)
    expect((await away.fetch('acme/tool')).version).toBe('1.1.0')
    expect((await away.run('trust', 'show')).stdout).toContain('key stolen')
    // The thief does not give up.
    for (const node of [founder, away]) {
      await member.tell(node.address)
      await logs(node, 'certificate-revoked')
      expect((await node.client.show('acme/tool')).version).toBe('1.1.0')
    }
  }, 120_000)
})
