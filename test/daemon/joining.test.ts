// Joining as a user does it: an authority's daemon invites, another home joins, its daemon is a member; it is granted a
// name, publishes, and is revoked. By files the same without a connection.
import { describe, expect, test } from 'vitest'
import type {
  GrantResult,
  InviteResult,
  IssuedCertificate,
  IssueResult,
} from '../../src/control/certificates-api.ts'
import { catalog, connected, Laboratory, until } from './harness.ts'

const laboratory = new Laboratory()

describe('a node that joins', () => {
  test('by invite is a member, is granted names, and is cut off when it is revoked', async () => {
    const founder = await laboratory.node('founder')
    await laboratory.run(founder)
    const { invite } = await founder.json<InviteResult>('trust', 'invite', '--label', 'lab')

    const joiner = await laboratory.outsider('joiner')
    const joined = await catalog(['init', '--home', joiner.home, '--join', invite, '--json'])
    expect(joined).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(joined.stdout)).toMatchObject({ network: 'catalog' })
    const second = await catalog(['init', '--home', await laboratory.path('second'), '--join', invite])
    expect(second).toMatchObject({ code: 9, stderr: expect.stringContaining('was used by another node') })

    // Its config has the address of the invite.
    await laboratory.run(joiner)
    await connected(joiner, founder)
    const directory = await laboratory.package('acme/tool', '1.0.0', { 'a.txt': 'a' })
    expect((await joiner.run('publish', directory)).stderr).toContain('catalog trust grant')

    const granted = await founder.json<GrantResult>('trust', 'grant', 'acme/*', '--to', joiner.peerId)
    expect(granted).toMatchObject({ delivered: true, by: 'authority', names: ['acme/*'] })
    await joiner.client.publish({ path: directory })
    const isKnown = async () => (await founder.client.releases(false)).length === 1
    await until('the founder knows the release', isKnown, 20_000)

    const done = await founder.run('trust', 'revoke', joiner.peerId, '--reason', 'test')
    expect(done.stdout).toMatch(/^Revoked 3 certificates\./)
    const isAlone = async () => (await founder.client.peers()).length === 0
    await until('the revoked node is cut off', isAlone, 20_000)
    const { certificates } = await founder.json<{ certificates: IssuedCertificate[] }>(
      'trust',
      'issued',
      '--all',
    )
    expect(certificates.filter(({ state }) => state === 'revoked')).toHaveLength(3)
  }, 120_000)

  test('by files is a member as well', async () => {
    const founder = await laboratory.node('authority', 'files')
    await laboratory.run(founder)
    const node = await laboratory.outsider('offline')
    const { home } = node
    const [request, membership] = [await laboratory.path('a.request'), await laboratory.path('a.membership')]
    expect(await catalog(['init', '--home', home, '--request', request])).toMatchObject({ code: 0 })
    const { root } = await founder.json<IssueResult>('trust', 'issue', request, '--out', membership)
    const complete = (fingerprint: string) =>
      catalog(['init', '--home', home, '--membership', membership, '--root', fingerprint])
    expect(await complete('b'.padEnd(56, 'a'))).toMatchObject({ code: 7 })
    expect(await complete(root)).toMatchObject({ code: 0 })
    await laboratory.run(node, [founder])
    await connected(node, founder)
  }, 120_000)
})
