// The only authority of a network is gone, its key perhaps stolen: who holds the keys of the root makes another, and the
// members come back to that one.
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { InviteResult } from '../../src/control/certificates-api.ts'
import type { TrustView } from '../../src/control/trust-calls.ts'
import { catalog, Laboratory, TestNode, until } from './harness.ts'

const laboratory = new Laboratory()
const started: TestNode[] = []
afterEach(async () => {
  for (const node of started.splice(0)) await node.end('SIGTERM')
})

const run = async (node: TestNode, ...bootstrap: TestNode[]) => {
  await node.start(bootstrap.flatMap(other => ['--bootstrap', other.address]))
  started.push(node)
}
const done = async (...args: string[]) => {
  const { code, stdout, stderr } = await catalog([...args, '--json'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}
const trustOf = (node: TestNode) => node.json<TrustView>('trust', 'show')
const isConnectedTo = (node: TestNode, other: TestNode) => async () =>
  (await node.client.peers()).some(({ peer }) => peer === other.peerId)
const installs = (node: TestNode, ref: string) => () =>
  node.fetch(ref).then(
    () => true,
    () => false,
  )
const publish = async (node: TestNode, name: string, version: string) =>
  node.client.publish({ path: await laboratory.package(name, version, { 'a.txt': version }) })

/** Joins by invite; a home that is there comes back. */
async function joins(node: TestNode, authority: TestNode): Promise<void> {
  const { invite } = await authority.json<InviteResult>('trust', 'invite')
  await done('init', '--home', node.home, '--join', invite)
  await run(node, authority)
  await until('the node is connected', isConnectedTo(node, authority), 20_000)
}

/** From proposal to publication on a member; gives the path of the new authority's membership file. */
async function makeAuthority(
  member: TestNode,
  request: string,
  rootKeys: string,
  ...more: string[]
): Promise<{ membership: string; proposed: string }> {
  const file = await laboratory.path(`${Math.random().toString(36).slice(2)}.root`)
  const rotate = async (...args: string[]) => {
    const { code, stdout, stderr } = await member.run('trust', 'rotate', 'root', ...args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout
  }
  const proposed = await rotate('--propose', file, '--add-authority', request, ...more)
  expect(await rotate('--sign', file, '--root-keys', rootKeys)).toContain('All signatures are there')
  expect(await rotate('--publish', file)).toContain(`${file}.membership`)
  return { membership: `${file}.membership`, proposed }
}

test('the root makes an authority in the place of a stolen one, and members come back to it', async () => {
  const founder = await laboratory.node('founder')
  await run(founder)
  const ann = new TestNode(await laboratory.path('ann'))
  await joins(ann, founder)
  await founder.json('trust', 'grant', 'acme/*', '--to', ann.peerId)
  await publish(ann, 'acme/tool', '1.0.0')
  const { authorities, network } = await trustOf(ann)
  await until('ann knows the authority', async () => (await trustOf(ann)).authorities.length === 1, 20_000)
  const [old] = authorities.length === 1 ? authorities : (await trustOf(ann)).authorities
  // Only the keys of the root are left of it.
  await founder.end('SIGTERM')

  const heir = new TestNode(await laboratory.path('heir'))
  const request = await laboratory.path('heir.request')
  const asked = ['init', '--home', heir.home, '--request', request, '--authority', '--label', 'heir']
  const { authority: keys } = await done(...asked)
  const rootKeys = join(founder.home, 'root-keys')
  const { membership, proposed } = await makeAuthority(
    ann,
    request,
    rootKeys,
    '--revoke',
    String(old?.certificate),
  )
  expect(proposed).toMatch(new RegExp(`New authority +"heir", keys ${keys}, .* grant every name`))
  expect(proposed).toMatch(new RegExp(`Ends +${old?.certificate}`))
  expect((await trustOf(ann)).standing).toMatchObject({
    state: 'refused',
    why: expect.stringContaining('by the root of the network'),
  })

  // The file is for that home alone, and for this network alone.
  const stranger = await laboratory.path('stranger')
  await done('init', '--home', stranger, '--request', `${request}-2`, '--authority')
  const complete = (home: string, root: string) =>
    catalog(['init', '--home', home, '--membership', membership, '--root', root, '--json'])
  expect((await complete(stranger, network.root)).stderr).toContain('certificate-wrong-usage')
  expect((await complete(heir.home, 'b'.padEnd(56, 'a'))).stderr).toContain('root-not-trusted')
  const completed = await complete(heir.home, network.root)
  expect(JSON.parse(completed.stdout)).toMatchObject({ root: network.root, authority: expect.any(String) })
  await run(heir, ann)
  expect((await trustOf(heir)).standing).toEqual({ state: 'current' })
  await heir.json('trust', 'grant', 'heir/*', '--to', heir.peerId)
  await publish(heir, 'heir/tool', '1.0.0')

  await ann.end('SIGTERM')
  await joins(ann, heir)
  expect((await trustOf(ann)).standing).toEqual({ state: 'current' })
  await until('ann installs what the new authority published', installs(ann, 'heir/tool'), 20_000)
  await heir.json('trust', 'grant', 'acme/*', '--to', ann.peerId)
  // What stood below the stolen key stands no more, whoever signed it; its owner goes on with new versions.
  await publish(ann, 'acme/tool', '1.1.0')
  await until('the new authority installs what ann publishes', installs(heir, 'acme/tool@1.1.0'), 20_000)
  expect(await installs(heir, 'acme/tool@1.0.0')()).toBe(false)

  // Whoever runs the old one is refused by everybody who knows the new root, and is told why.
  await run(founder, heir, ann)
  const isTold = async () => (await founder.run('status')).stdout.includes('by the root of the network')
  await until('the old authority hears of its end', isTold, 20_000)
  for (const node of [heir, ann]) expect(await isConnectedTo(node, founder)()).toBe(false)
}, 180_000)

test('a member becomes an authority beside the first one, and keeps its names', async () => {
  const founder = await laboratory.node('first', 'beside')
  await run(founder)
  const bob = new TestNode(await laboratory.path('bob'))
  await joins(bob, founder)
  await founder.json('trust', 'grant', 'bob/*', '--to', bob.peerId)
  await publish(bob, 'bob/tool', '1.0.0')
  const before = (await trustOf(bob)).publishers[0]
  const request = await laboratory.path('bob.request')
  const ask = ['init', '--home', bob.home, '--request', request, '--authority']
  expect((await catalog([...ask, '--json'])).code).not.toBe(0)
  await bob.end('SIGTERM')
  await done(...ask)

  const { membership } = await makeAuthority(founder, request, join(founder.home, 'root-keys'))
  await done('init', '--home', bob.home, '--membership', membership)
  await run(bob, founder)
  await until('bob is connected', isConnectedTo(bob, founder), 20_000)
  const after = (await trustOf(bob)).publishers[0]
  expect(after).toMatchObject({ publisher: before?.publisher, names: ['bob/*'] })
  expect(after?.certificate).not.toBe(before?.certificate)
  await publish(bob, 'bob/tool', '1.1.0')
  for (const version of ['1.0.0', '1.1.0'])
    await until(`the founder installs ${version}`, installs(founder, `bob/tool@${version}`), 20_000)

  await founder.end('SIGTERM')
  const carol = new TestNode(await laboratory.path('carol'))
  await joins(carol, bob)
  await bob.json('trust', 'grant', 'carol/*', '--to', carol.peerId)
  await publish(carol, 'carol/tool', '1.0.0')
  await until('bob installs it', installs(bob, 'carol/tool'), 20_000)
}, 180_000)
