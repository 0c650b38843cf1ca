// Who belongs to a network, as a person sees it: real daemons with certificates that are good, old, false or taken back,
// clocks that are wrong, roots that change, and authorities that are not heard of any more.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { homePaths } from '../../src/config/home.ts'
import type { FetchResult } from '../../src/control/api.ts'
import type { GrantResult, InviteResult } from '../../src/control/certificates-api.ts'
import type { TrustView } from '../../src/control/trust-calls.ts'
import { decodeChain } from '../../src/trust/certificate.ts'
import { loadChain, saveChain } from '../../src/trust/certificate-files.ts'
import { catalog, connected, Laboratory, type TestNode, until } from './harness.ts'
import {
  found,
  keysOf,
  makeMember,
  nodeGrant,
  publicKeysOf,
  publisherGrant,
  withHolder,
} from './membership.ts'

const laboratory = new Laboratory()

const said = async (node: TestNode, ...args: string[]) => {
  const { stdout, stderr } = await node.run(...args)
  return stdout + stderr
}
const status = (node: TestNode) => said(node, 'status')
const peersOf = async (node: TestNode) => (await node.client.peers()).map(({ peer }) => peer)
const says = (node: TestNode, what: string, ...args: string[]) =>
  until(`it says ${JSON.stringify(what)}`, async () => (await said(node, ...args)).includes(what), 20_000)
const names = async (node: TestNode) =>
  (await node.client.releases(false)).map(({ name, version }) => `${name}@${version}`).sort()
const publish = async (
  node: TestNode,
  name: string,
  version = '1.0.0',
  files = { 'a.txt': `${name} ${version}` },
) => node.client.publish({ path: await laboratory.package(name, version, files) })

describe('two networks on one host', () => {
  test('do not mix, whether they have one name or two, and each says why', async () => {
    const mine = await laboratory.node('mine', 'same')
    const theirs = await laboratory.outsider('theirs')
    await found(theirs.home, 'same')
    const other = await laboratory.node('other', 'other')
    const port = '/ip4/127.0.0.1/udp/47431/quic-v1'
    await mine.start(['--bootstrap', port])
    laboratory.endAfterTest(mine)
    await theirs.start(['--listen', port, '--bootstrap', mine.address])
    laboratory.endAfterTest(theirs)
    await laboratory.run(other, [mine, theirs])
    await Promise.all([publish(mine, 'mine'), publish(theirs, 'theirs'), publish(other, 'other')])

    const roots = await Promise.all(
      [mine, theirs].map(
        async node => (await node.json<TrustView & Record<string, never>>('trust', 'show')).network.root,
      ),
    )
    const [ours, foreign] = roots as [string, string]
    expect(ours).not.toBe(foreign)
    await says(mine, `it is of the network ${foreign}, this is ${ours}`, 'status')
    await says(theirs, `it is of the network ${ours}, this is ${foreign}`, 'peers')
    await says(other, 'It does not speak the membership protocol of the network other', 'peers')
    expect(theirs.errors).toContain('certificate-wrong-network')
    // Whoever is asked by name looks everywhere there is.
    const asked = [mine.run('fetch', 'theirs'), theirs.run('fetch', 'other'), other.run('fetch', 'mine')]
    for (const { stderr } of await Promise.all(asked)) expect(stderr).toContain('No release matches')
    expect(await Promise.all([mine, theirs, other].map(names))).toEqual([
      ['mine@1.0.0'],
      ['theirs@1.0.0'],
      ['other@1.0.0'],
    ])
    expect(await Promise.all([mine, theirs, other].map(peersOf))).toEqual([[], [], []])
    expect(await said(mine, 'peers')).toMatch(/^No peers\.[\s\S]*Refused within the last hour:/)
  }, 90_000)

  test.skipIf(process.getuid?.() !== 0)(
    'do not mix where they find each other by multicast DNS',
    async () => {
      const directory = await laboratory.path('mdns')
      await mkdir(directory)
      await Promise.all(['a', 'b'].map(name => found(join(directory, name), 'same')))
      const script = fileURLToPath(new URL('mdns.sh', import.meta.url))
      const { stdout } = await promisify(execFile)(
        'unshare',
        ['-n', 'bash', script, process.execPath, directory],
        { timeout: 80_000 },
      )
      expect(stdout.trim()).toBe('refused')
    },
    90_000,
  )
})

describe('a node whose certificate is not good', () => {
  test('is let in by nobody, gets nothing, says why, and comes back by a new invite', async () => {
    const founder = await laboratory.node('founder', 'members')
    const honest = await laboratory.node('honest', 'members')
    const node = await laboratory.node('node', 'members')
    const stranger = await laboratory.outsider('stranger')
    await found(stranger.home, 'members')
    await laboratory.run(founder)
    await publish(founder, 'secret')
    const hour = 3_600_000
    const subject = publicKeysOf((await keysOf(node.home)).node)
    const grant = nodeGrant()
    const issued = (home: string, who: 'authority' | 'node', changes = {}) =>
      withHolder(home, who, holder => holder.issue(subject, grant, changes))
    const network = (await founder.client.trust()).network.root
    const path = homePaths(node.home).trust.node
    const good = await loadChain(path)
    const cases = {
      'it was valid until': await issued(founder.home, 'authority', {
        notBefore: Date.now() - 48 * hour,
        notAfter: Date.now() - hour,
      }),
      'is a clock wrong?': await issued(founder.home, 'authority', { notBefore: Date.now() + hour }),
      'a node certificate cannot issue others': await issued(honest.home, 'node'),
      // Its own network calls itself the same.
      'it is of the network': await issued(stranger.home, 'authority', { network }),
      'it belongs to another peer': await loadChain(homePaths(honest.home).trust.node),
    }
    for (const [sentence, chain] of Object.entries(cases)) {
      await saveChain(path, chain ?? [])
      await laboratory.run(node, [founder])
      await says(founder, sentence, 'status')
      await says(node, sentence, 'status')
      expect(await said(node, 'peers')).toContain('refuses this node')
      expect(await said(node, 'trust', 'show')).toContain('refused')
      expect(node.errors).toContain('the certificate of this node is not in order')
      expect((await node.run('fetch', 'secret')).code).not.toBe(0)
      expect([await names(node), await peersOf(node), await peersOf(founder)]).toEqual([[], [], []])
      await node.end('SIGTERM')
    }

    // The expired one, as its owner puts it right.
    await saveChain(path, cases['it was valid until'])
    const { invite } = await founder.json<InviteResult & Record<string, never>>('trust', 'invite')
    const joined = await catalog(['init', '--join', invite, '--home', node.home])
    expect(joined).toMatchObject({ code: 0, stderr: '' })
    expect(await loadChain(path)).not.toEqual(good)
    await laboratory.run(node, [founder])
    await until('it knows the release', async () => (await names(node)).includes('secret@1.0.0'), 20_000)
    expect(await status(node)).toMatch(/Membership +in order/)
    expect(await said(founder, 'peers')).not.toContain('Refused')
  }, 150_000)

  test('is cut off at once when it is revoked, and is refused when it comes back from being away', async () => {
    const founder = await laboratory.node('revoking', 'revoked')
    const [witness, near, away] = [
      await laboratory.node('witness', 'revoked'),
      await laboratory.node('near', 'revoked'),
      await laboratory.node('away', 'revoked'),
    ]
    await laboratory.run(founder)
    await laboratory.run(witness, [founder])
    await laboratory.run(near, [founder, witness])
    await laboratory.run(away, [founder])
    await Promise.all([connected(witness, near), connected(founder, near), connected(founder, away)])
    await away.end('SIGTERM')
    const certificateOf = async (node: TestNode) =>
      (await withHolder(node.home, 'node', async holder => holder.certificate)).fingerprint
    const revoked = [await certificateOf(near), await certificateOf(away)]

    const before = performance.now()
    for (const certificate of revoked)
      await founder.client.revokeCertificates({ target: certificate, reason: 'laptop lost' })
    const isCutOff = async () =>
      !(await peersOf(witness)).includes(near.peerId) && (await peersOf(near)).length === 0
    // News goes to connected peers at once; one sync round is 60 s.
    await until('the revoked node is cut off', isCutOff, 10_000)
    console.log(`a revoked node was cut off after ${Math.round(performance.now() - before)} ms`)
    await says(near, 'it was revoked (laptop lost); ask an authority of the network for a new one', 'status')
    expect(await said(witness, 'trust', 'show')).toMatch(new RegExp(`${revoked[0]} .*laptop lost`))

    await laboratory.run(away, [founder, witness])
    await says(away, 'it was revoked (laptop lost)', 'peers')
    // Whoever dials is believed for the moment that the answer takes.
    await until('it has no peers', async () => (await peersOf(away)).length === 0)
    expect(await peersOf(witness)).toEqual([founder.peerId])
  }, 90_000)
})

describe('the root of a network', () => {
  test('is replaced by two of three keys when one is lost, twice, while everybody works on', async () => {
    const founder = await laboratory.outsider('rooted')
    const init = await catalog([
      ...['init', '--home', founder.home, '--network', 'rooted', '--root-keys', '3', '--root-threshold', '2'],
    ])
    expect(init.code).toBe(0)
    const notices: Uint8Array[] = []
    const members = [await laboratory.outsider('steady'), await laboratory.outsider('sleeper')] as const
    for (const { home } of members)
      await makeMember(home, { founder: { home: founder.home, notices }, network: 'rooted' })
    const [steady, sleeper] = members
    await laboratory.run(founder)
    await laboratory.run(steady, [founder])
    await laboratory.run(sleeper, [founder])
    await Promise.all([connected(founder, steady), connected(founder, sleeper)])
    await sleeper.end('SIGTERM')
    const rootKeys = homePaths(founder.home).rootKeys
    await rm(join(rootKeys, 'root-2.key'))

    const rotate = async (...args: string[]) => {
      const { code, stdout, stderr } = await founder.run('trust', 'rotate', 'root', ...args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      return stdout
    }
    for (const version of [2, 3]) {
      const proposal = await laboratory.path(`root-${version}`)
      const key = join(rootKeys, `root-new-${version}.key`)
      await rotate('--make-key', key)
      const { keys } = (await founder.client.trust()).network
      // Nobody knows any more which fingerprint the lost file had: it is the one that signs nothing.
      const held = await signersOf(rotate, keys, version)
      const lost = keys.find(fingerprint => !held.includes(fingerprint)) ?? keys[0]
      await rotate('--propose', proposal, '--add-key', `${key}.pub`, '--remove', String(lost))
      expect(await rotate('--sign', proposal)).toContain('All signatures are there')
      expect(await rotate('--publish', proposal)).toContain(`root is version ${version} from now on`)
      await says(steady, `Root version  ${version}: 2 of 3 keys`, 'trust', 'show')
    }
    expect(await status(steady)).toMatch(/Membership +in order/)
    const [peer] = await steady.client.peers()
    expect(peer?.peer).toBe(founder.peerId)
    await publish(steady, 'after-rotation')
    await until('the founder knows it', async () => (await names(founder)).length === 1)

    await laboratory.run(sleeper, [steady])
    await says(sleeper, 'Root version  3: 2 of 3 keys', 'trust', 'show')
    await until('the sleeper is a member as before', async () => (await names(sleeper)).length === 1, 20_000)
    expect(await status(sleeper)).toMatch(/Membership +in order/)
  }, 120_000)
})

/** The keys of a root whose files are there, by a proposal that they sign and nobody publishes. */
async function signersOf(
  rotate: (...args: string[]) => Promise<string>,
  keys: readonly string[],
  version: number,
): Promise<string[]> {
  const trial = await laboratory.path(`trial-${version}`)
  await rotate('--propose', trial, '--days', '300')
  const signed = /Signed by\s+([\s\S]*?)\n\n/.exec(await rotate('--sign', trial))?.[1] ?? ''
  return keys.filter(key => signed.includes(key))
}

const faketime = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64']
  .map(directory => join(directory, 'faketime', 'libfaketime.so.1'))
  .find(existsSync)
if (faketime === undefined) console.log('SKIP clocks that are wrong by a day: libfaketime is not installed')

const clock = (shift: string) => ({
  ...process.env,
  LD_PRELOAD: faketime,
  FAKETIME: shift,
  FAKETIME_DONT_FAKE_MONOTONIC: '1',
})

describe.skipIf(faketime === undefined)('a clock that is a day behind', () => {
  test('is named where certificates seem to begin in the future', async () => {
    const founder = await laboratory.node('punctual', 'late')
    const node = await laboratory.node('late', 'late')
    await laboratory.run(founder)
    await publish(founder, 'punctual')
    await laboratory.run(node, [founder], clock('-1d'))
    await says(node, 'is a clock wrong?', 'status')
    await says(founder, 'is a clock wrong?', 'status')
    expect(await peersOf(node)).toEqual([])
    const invite = (await founder.client.invite({})).invite
    const joiner = await catalog(['init', '--join', invite, '--home', await laboratory.path('late-joiner')], {
      env: clock('-1d'),
    })
    expect(joiner.code).not.toBe(0)
    expect(joiner.stderr).toMatch(/clock/)
    // Put right, nothing else is needed.
    await node.end('SIGTERM')
    await laboratory.run(node, [founder])
    await until('it knows the release', async () => (await names(node)).length === 1, 20_000)
    expect(await status(node)).toMatch(/Membership +in order/)
  }, 90_000)
})

describe.skipIf(faketime === undefined)('a clock that runs a day ahead', () => {
  test('is named by the node that has it, and whatever it signs is refused until it is set', async () => {
    const founder = await laboratory.node('on-time', 'early')
    const node = await laboratory.node('early', 'early')
    await laboratory.run(founder)
    await laboratory.run(node, [founder], clock('+1d'))
    await connected(node, founder)
    await says(node, 'is the clock of this node wrong?', 'status')
    await publish(node, 'early')
    await until('it is refused', async () => founder.errors.includes('it was signed in the future'))
    expect(await names(founder)).toEqual([])
    await node.end('SIGTERM')
    await laboratory.run(node, [founder])
    await connected(node, founder)
    expect(await status(node)).not.toContain('clock')
    await publish(node, 'on-time')
    await until('it is known', async () => (await names(founder)).includes('on-time@1.0.0'), 20_000)
  }, 90_000)
})

describe('a node that hears nothing of its authority', () => {
  test('says so, installs what is new only when told to, and runs what it has', async () => {
    const founder = await laboratory.node('authority', 'silent')
    const publisher = await laboratory.node('publisher', 'silent')
    const node = await laboratory.node('cut-off', 'silent')
    await laboratory.run(founder)
    await laboratory.run(publisher, [founder])
    await laboratory.run(node, [publisher, founder])
    await Promise.all([connected(node, publisher), connected(publisher, founder)])
    const program = await laboratory.package(
      'runs',
      '1.0.0',
      { 'main.py': 'print("it runs")' },
      { execution: { runtime: 'python', entrypoint: 'main.py' } },
    )
    await publisher.client.publish({ path: program })
    await publish(publisher, 'new')
    await until('both are known', async () => (await names(node)).length === 2)
    await node.fetch('runs')
    await founder.end('SIGTERM')

    const [known] = (await node.client.trust()).authorities
    const sequence = (known?.list.sequence ?? 0) + 1
    // As if the authority had been silent for a month.
    const list = await withHolder(founder.home, 'authority', authority =>
      authority.revoke({ sequence, expiresAt: Date.now() + 1500 }),
    )
    await node.client.sendNotice({ document: Buffer.from(list.bytes).toString('base64') })
    await says(node, 'this node has heard nothing of its authority since', 'status')
    expect(await said(node, 'trust', 'show')).toContain('it is cut off, or the authority is')

    const refused = await node.run('fetch', 'new', '--json')
    expect(refused.code).toBe(7)
    expect(JSON.parse(refused.stderr)).toMatchObject({ error: { code: 'stale-head' } })
    expect(refused.stderr).toContain('--allow-stale')
    const out = await laboratory.path('stale-out')
    const taken = await node.json<FetchResult & Record<string, never>>(
      'fetch',
      'new',
      '--allow-stale',
      '--out',
      out,
    )
    expect(taken.stale).toBeDefined()
    expect(taken.warnings?.join()).toContain('has heard nothing of its authority')
    const ran = await node.run('execute', 'runs', '--on', 'local')
    expect(ran).toMatchObject({ code: 0, stdout: 'it runs\n' })
    expect(ran.stderr).toContain('warning:')
    expect(ran.stderr).toContain('has heard nothing of its authority')

    // The authority is back, and takes something back: its next list is news.
    await laboratory.run(founder, [publisher])
    await connected(founder, publisher)
    const target = await withHolder(
      founder.home,
      'authority',
      async ({ issue, signer }) =>
        decodeChain(await issue(signer.publicKeys, publisherGrant(signer.fingerprint)))[0]?.fingerprint,
    )
    await founder.client.revokeCertificates({ target: String(target), reason: 'a test' })
    await says(node, 'in order', 'status')
    await publish(publisher, 'newer')
    await until('it is known', async () => (await names(node)).includes('newer@1.0.0'))
    expect((await node.fetch('newer')).stale).toBeUndefined()
  }, 120_000)
})

describe('names', () => {
  test('are published by whom they are granted to, on one machine or two', async () => {
    const founder = await laboratory.node('granting', 'grants')
    const second = await laboratory.node('second', 'grants', { names: [] })
    const third = await laboratory.node('third', 'grants', { names: [] })
    await laboratory.run(founder)
    await laboratory.run(second, [founder])
    await laboratory.run(third, [founder, second])
    await Promise.all([connected(second, founder), connected(third, second), connected(third, founder)])

    const own = await laboratory.package('acme/own', '1.0.0', { 'a.txt': 'a' })
    const refused = await second.run('publish', own)
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain('This node may not sign for acme/own: its certificates grant no names')
    expect(refused.stderr).toContain("catalog trust grant 'acme/own' --to PEER")
    expect(await said(second, 'trust', 'can', 'publish', 'acme/own')).toMatch(/^No:/)
    await founder.json<GrantResult & Record<string, never>>(
      'trust',
      'grant',
      'acme/own',
      '--to',
      second.peerId,
    )
    expect((await second.run('publish', own)).code).toBe(0)
    expect(await said(second, 'trust', 'can', 'publish', 'acme/own')).toMatch(/^Yes:/)

    // One publisher on two machines.
    const lent = await founder.json<GrantResult & Record<string, never>>(
      ...(['trust', 'grant', 'duo/*', '--to', second.peerId, '--delegate'] as const),
    )
    expect(lent).toMatchObject({ by: 'delegation', delivered: true })
    await Promise.all([publish(founder, 'duo/tool', '1.0.0'), publish(second, 'duo/tool', '2.0.0')])
    const both = async () => {
      const shown = await third.client.show('duo/tool').catch(() => undefined)
      return shown?.versions.join() === '1.0.0,2.0.0'
    }
    await until('a third node lists both versions', both, 40_000)
    await third.fetch('duo/tool@1.0.0')
    await third.fetch('duo/tool@2.0.0')
    const views = await third.client.releases(false)
    const publishers = views.filter(({ name }) => name === 'duo/tool').map(({ publisher }) => publisher)
    expect(new Set(publishers)).toEqual(new Set([lent.publisher]))
  }, 90_000)

  test('that are yanked, revoked or deprecated say so on every node', async () => {
    const publisher = await laboratory.node('marking', 'marks')
    const node = await laboratory.node('reading', 'marks')
    await laboratory.run(publisher)
    await laboratory.run(node, [publisher])
    for (const version of ['1.0.0', '1.1.0', '1.2.0']) await publish(publisher, 'marked', version)
    await until('all are known', async () => (await names(node)).length === 3, 20_000)
    await node.fetch('marked@1.2.0')
    await publisher.json('yank', 'marked@1.1.0', '--reason', 'it is slow')
    await publisher.json('yank', 'marked@1.2.0', '--revoke', '--reason', 'it leaks')
    await publisher.json('deprecate', 'marked', '--message', 'use marked-2')
    await until(
      'the marks have come',
      async () => (await node.client.show('marked@1.0.0')).sequence === 6,
      20_000,
    )

    const shown = await said(node, 'show', 'marked@1.0.0')
    expect(shown).toMatch(/Versions +1\.0\.0, 1\.1\.0 \(yanked\), 1\.2\.0 \(revoked\)/)
    expect(shown).toContain('marked is deprecated by its publisher: use marked-2.')
    const list = await said(node, 'list')
    expect(list).toMatch(/1\.1\.0 .*\[yanked, deprecated\]/)
    expect(list).toMatch(/1\.2\.0 .*\[revoked, deprecated\]/)
    expect(list).toMatch(/1\.0\.0 .*\[deprecated\]/)
    expect(await said(node, 'search', 'marked')).toMatch(/marked .*deprecated\]/)
    const ranged = await node.json<FetchResult & Record<string, never>>(
      'fetch',
      'marked@^1.0.0',
      '--out',
      await laboratory.path('ranged'),
    )
    expect(ranged.version).toBe('1.0.0')
    expect(ranged.warnings).toEqual(['marked is deprecated by its publisher: use marked-2.'])
    const exact = await node.run('fetch', 'marked@1.1.0', '--out', await laboratory.path('exact'))
    expect(exact).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('was yanked by its publisher: it is slow.'),
    })
    // It is here, and all the same it is not given out any more.
    const gone = await node.run('fetch', 'marked@1.2.0', '--out', await laboratory.path('gone'))
    expect(gone.stderr).toContain('was revoked by its publisher and is not installed any more: it leaks.')
    expect(gone.code).toBe(7)
  }, 90_000)
})
