// New keys for a publisher while its daemon runs, a second authority that goes on without the first, and what a crash in
// the middle of a rotation leaves on disk.
import { access, copyFile, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { type HomePaths, homePaths } from '../../src/config/home.ts'
import { readPassphrase } from '../../src/config/passphrase.ts'
import type { GrantResult, IssueResult, RotateResult } from '../../src/control/certificates-api.ts'
import type { TrustView } from '../../src/control/trust-calls.ts'
import { type HomeKeys, openHomeKeys } from '../../src/home-keys.ts'
import { finishRotation, NextPublisherKeys } from '../../src/next-publisher-keys.ts'
import { decodeChain, issueCertificate } from '../../src/trust/certificate.ts'
import { loadChain, saveChain } from '../../src/trust/certificate-files.ts'
import { subjectOf } from '../../src/trust/chain.ts'
import type { PublisherKeys } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'
import { catalog, connected, Laboratory, type TestNode, until } from './harness.ts'
import { publisherGrant } from './membership.ts'

const laboratory = new Laboratory()

const ownOf = async (node: TestNode) => {
  const { publishers } = await node.json<TrustView>('trust', 'show')
  return publishers[0] as TrustView['publishers'][number]
}

describe('rotating the keys of a publisher', () => {
  test('keeps its id, names and packages, and survives a restart', async () => {
    const founder = await laboratory.node('founder', 'rotation')
    await laboratory.run(founder)
    const ann = await laboratory.joined('ann', founder)
    await founder.json<GrantResult>('trust', 'grant', 'acme/*', '--to', ann.peerId)
    await ann.client.publish({ path: await laboratory.package('acme/tool', '1.0.0', { 'a.txt': 'a' }) })
    const before = await ownOf(ann)

    const text = await ann.run('trust', 'rotate', 'publisher', '--revoke-old', '--reason', 'laptop stolen')
    expect(text).toMatchObject({ code: 0, stderr: '' })
    expect(text.stdout).toMatch(/^The publisher has new keys; 1 head signed anew\./)
    const after = await ownOf(ann)
    expect(after.publisher).toBe(before.publisher)
    expect(after.names).toEqual(['acme/*'])
    expect(after.subject).not.toBe(before.subject)

    // The founder revoked the old certificate; the release stands on the new head.
    const installs = (ref: string) => async () => founder.installs(ref)
    await until('the founder installs the old release', installs('acme/tool@1.0.0'), 20_000)
    await ann.client.publish({ path: await laboratory.package('acme/tool', '1.1.0', { 'a.txt': 'b' }) })
    await until('the founder installs the new release', installs('acme/tool@1.1.0'), 20_000)
    const issued = await founder.json<{ certificates: { state: string; reason?: string }[] }>(
      'trust',
      'issued',
      '--all',
    )
    const reasons = issued.certificates.filter(({ state }) => state === 'revoked').map(({ reason }) => reason)
    expect(reasons).toEqual(['laptop stolen', 'laptop stolen'])

    await ann.end('SIGTERM')
    await laboratory.run(ann, [founder])
    expect((await ownOf(ann)).subject).toBe(after.subject)
    await ann.client.publish({ path: await laboratory.package('acme/tool', '1.2.0', { 'a.txt': 'c' }) })
    await until('the founder installs what came after', installs('acme/tool@1.2.0'), 20_000)
  }, 120_000)

  test('after the operator revoked the stolen ones, where he allows it', async () => {
    const founder = await laboratory.node('robbed-founder', 'theft')
    await laboratory.run(founder)
    const ann = await laboratory.joined('robbed', founder)
    await founder.json<GrantResult>('trust', 'grant', 'acme/*', '--to', ann.peerId)
    await ann.client.publish({ path: await laboratory.package('acme/tool', '1.0.0', { 'a.txt': 'a' }) })
    await until(
      'the founder knows it',
      async () => (await founder.client.releases(false)).length === 1,
      20_000,
    )
    const { certificate } = await ownOf(ann)
    await founder.json('trust', 'revoke', certificate, '--reason', 'stolen')
    const isRevoked = async () => (await ownOf(ann)).standing.state === 'refused'
    await until('the publisher hears of it', isRevoked, 20_000)
    const refused = await ann.run('trust', 'rotate', 'publisher')
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain(`catalog trust revoke ${certificate} --allow-rotation`)

    await founder.json('trust', 'revoke', certificate, '--allow-rotation')
    const done = await ann.json<RotateResult>('trust', 'rotate', 'publisher')
    // Its heads were dropped everywhere, here too; what they listed is listed again.
    expect(done).toMatchObject({ heads: 1, warnings: [] })
    const installs = async () => founder.installs('acme/tool@1.0.0')
    await until('the founder installs it', installs, 20_000)
  }, 120_000)
})

test('a second authority lets nodes in and renews their keys when the first is gone', async () => {
  const founder = await laboratory.node('first', 'two-authorities')
  await laboratory.run(founder)
  const second = await laboratory.outsider('second')
  const { home } = second
  const [request, membership] = [
    await laboratory.path('second.request'),
    await laboratory.path('second.membership'),
  ]
  expect(await catalog(['init', '--home', home, '--authority'])).toMatchObject({ code: 2 })
  expect(await catalog(['init', '--home', home, '--request', request, '--authority'])).toMatchObject({
    code: 0,
  })
  const { root } = await founder.json<IssueResult>(
    ...['trust', 'issue', request, '--out', membership, '--role', 'authority', '--role', 'store'],
  )
  const complete = ['init', '--home', home, '--membership', membership, '--root', root]
  expect(await catalog(complete)).toMatchObject({ code: 0 })
  await laboratory.run(second, [founder])
  await connected(second, founder)
  await founder.end('SIGTERM')

  const bob = await laboratory.joined('bob', second)
  await second.json<GrantResult>('trust', 'grant', 'bob/*', '--to', bob.peerId)
  const before = await ownOf(bob)
  const done = await bob.json<RotateResult>('trust', 'rotate', 'publisher', '--revoke-old')
  expect(done).toMatchObject({ by: second.peerId, publisher: before.publisher, previous: { revoked: true } })
  expect(await ownOf(bob)).toMatchObject({ names: ['bob/*'], standing: { state: 'current' } })
  await bob.client.publish({ path: await laboratory.package('bob/tool', '1.0.0', { 'a.txt': 'a' }) })
  const installs = async () => second.installs('bob/tool')
  await until('the second authority installs it', installs, 20_000)
  const { stderr } = await second.run('trust', 'invite', '--role', 'authority')
  expect(stderr).toContain('catalog init --request FILE --authority')
}, 120_000)

test('a publisher takes back by itself what it let another node sign', async () => {
  const founder = await laboratory.node('far', 'withdrawal')
  const ann = await laboratory.node('lender', 'withdrawal', { names: ['acme/*'] })
  const bob = await laboratory.node('borrower', 'withdrawal', { names: ['bob/*'] })
  await laboratory.run(founder)
  await laboratory.run(ann, [founder])
  await laboratory.run(bob, [founder, ann])
  await Promise.all([connected(bob, founder), connected(bob, ann)])
  await ann.json('trust', 'grant', 'acme/*', '--to', bob.peerId, '--delegate')
  await bob.client.publish({ path: await laboratory.package('acme/tool', '1.0.0', { 'a.txt': 'a' }) })
  const shows = async () => (await founder.run('show', 'acme/tool@1.0.0')).code === 0
  await until('the founder knows it', shows, 20_000)
  const done = await ann.run('trust', 'revoke', bob.peerId, '--reason', 'left')
  expect(done.stdout).toMatch(/^Revoked 1 certificate\./)
  const isRefused = async () => !(await founder.installs('acme/tool@1.0.0'))
  await until('the founder installs it no more', isRefused, 20_000)
  const again = await laboratory.package('acme/tool', '1.1.0', { 'a.txt': 'b' })
  await ann.client.publish({ path: again })
  const installs = async () => founder.installs('acme/tool@1.1.0')
  await until('what the publisher signs itself goes on', installs, 20_000)
  for (const node of [founder, ann]) expect(await bob.isConnectedTo(node)).toBe(true)
}, 120_000)

describe('a rotation that a crash cut short', () => {
  const passphrase = async () => {
    const file = await laboratory.path('passphrase')
    await writeFile(file, 'correct horse\n', { mode: 0o600 })
    return file
  }

  /** As the home's own authority would. */
  async function certify(paths: HomePaths, { authority: by, publisherKeys }: HomeKeys, fresh: PublisherKeys) {
    const above = (await loadChain(paths.trust.authority)) ?? []
    const [authority] = decodeChain(above)
    if (authority === undefined || by === undefined) throw new Error('the home founded no network')
    const signer = new Signer({ keys: by })
    const body = {
      ...publisherGrant(publisherKeys.fingerprint),
      ...{ network: authority.network, issuer: authority.fingerprint, serial: new Uint8Array(16) },
      ...{ notBefore: authority.notBefore, notAfter: authority.notAfter, critical: {}, extensions: {} },
      subject: { ed25519: fresh.ed25519.publicKey, falcon: fresh.falcon.publicKey },
    }
    try {
      return [(await issueCertificate(body, [signer])).bytes, ...above]
    } finally {
      await signer.stop()
    }
  }

  /** A home at the point after the certificate came, for a home under the unlock key or a passphrase. */
  async function prepared(name: string, guarded: boolean) {
    const home = await laboratory.path(name)
    const file = guarded ? await passphrase() : undefined
    const init = ['init', '--home', home, ...(file === undefined ? [] : ['--passphrase-file', file])]
    expect(await catalog(init)).toMatchObject({ code: 0 })
    const paths = homePaths(home)
    const secret = file === undefined ? undefined : await readPassphrase(file, '--passphrase-file')
    const keys = await openHomeKeys(paths, secret, silentLog)
    const next = new NextPublisherKeys({ secret: keys.secret }, { paths })
    const fresh = await next.prepare()
    const chain = await certify(paths, keys, fresh)
    return { paths, secret, keys, next, fresh, chain }
  }

  const nextChain = ({ trust }: HomePaths) => join(trust.directory, 'publisher-next.chain')
  const nextKey = ({ keys }: HomePaths) => join(keys, 'publisher-next.key')
  const isThere = (path: string) =>
    access(path).then(
      () => true,
      () => false,
    )

  for (const guarded of [false, true])
    test(`is completed wherever it ended${guarded ? ', under a passphrase' : ''}`, async () => {
      const { paths, secret, keys, next, fresh, chain } = await prepared(`crash-${guarded}`, guarded)
      const state = async () => {
        await finishRotation(paths, silentLog)
        const opened = await openHomeKeys(paths, secret, silentLog)
        const [leaf] = decodeChain((await loadChain(paths.trust.publisher)) ?? [])
        expect(leaf === undefined ? '' : subjectOf(leaf)).toBe(opened.publisherKeys.fingerprint)
        return opened.publisherKeys.fingerprint
      }
      // Only made: the old ones go on, and the same new ones are there for the next try.
      expect(await state()).toBe(keys.publisherKeys.fingerprint)
      expect(await next.pending()).toBe(true)
      expect((await next.prepare()).fingerprint).toBe(fresh.fingerprint)
      expect((await stat(nextKey(paths))).mode & 0o777).toBe(0o600)
      expect(
        (await readFile(nextKey(paths))).includes(Buffer.from(fresh.ed25519.secretKey.subarray(0, 32))),
      ).toBe(false)
      const saved = [
        await laboratory.path(`old-${guarded}.key`),
        await laboratory.path(`next-${guarded}.key`),
      ] as const
      await copyFile(join(paths.keys, 'publisher.key'), saved[0])
      await copyFile(nextKey(paths), saved[1])
      const oldChain = (await loadChain(paths.trust.publisher)) ?? []

      // The certificate came.
      await saveChain(nextChain(paths), chain)
      expect(await state()).toBe(fresh.fingerprint)
      expect([await isThere(nextChain(paths)), await isThere(nextKey(paths))]).toEqual([false, false])

      // The keys were in their place, the certificate not yet.
      await saveChain(paths.trust.publisher, oldChain)
      await saveChain(nextChain(paths), chain)
      expect(await state()).toBe(fresh.fingerprint)

      // A certificate whose keys are nowhere, as from half a backup.
      await copyFile(saved[0], join(paths.keys, 'publisher.key'))
      await saveChain(paths.trust.publisher, oldChain)
      await saveChain(nextChain(paths), chain)
      expect(await state()).toBe(keys.publisherKeys.fingerprint)
      expect(await isThere(nextChain(paths))).toBe(false)

      // And whole.
      await rename(saved[1], nextKey(paths))
      await next.commit(chain)
      expect(await state()).toBe(fresh.fingerprint)
      expect(await next.pending()).toBe(false)
    }, 60_000)

  test('makes no keys that the home could not open again', async () => {
    const { paths, next } = await prepared('moved', false)
    await next.discard()
    const file = await passphrase()
    expect(
      await catalog(['keys', '--home', paths.home, '--encrypt', '--passphrase-file', file]),
    ).toMatchObject({ code: 0 })
    await expect(next.prepare()).rejects.toMatchObject({
      code: 'wrong-passphrase',
      message: expect.stringMatching(/Restart the node/),
    })
    expect(await isThere(nextKey(paths))).toBe(false)
  }, 60_000)
})
