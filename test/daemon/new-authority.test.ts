// The only authority of a network is gone, its key perhaps stolen: who holds the keys of the root makes another, and the
// members come back to that one.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { TrustView } from '../../src/control/trust-calls.ts'
import { catalog, connected, Laboratory, type TestNode, until } from './harness.ts'

const laboratory = new Laboratory()

const done = async (...args: string[]) => {
  const { code, stdout, stderr } = await catalog([...args, '--json'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}
const trustOf = (node: TestNode) => node.json<TrustView>('trust', 'show')
const publish = async (node: TestNode, name: string, version: string) =>
  node.client.publish({ path: await laboratory.package(name, version, { 'a.txt': version }) })

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
  await laboratory.run(founder)
  const ann = await laboratory.joined('ann', founder)
  await founder.json('trust', 'grant', 'acme/*', '--to', ann.peerId)
  await publish(ann, 'acme/tool', '1.0.0')
  const { authorities, network } = await trustOf(ann)
  await until('ann knows the authority', async () => (await trustOf(ann)).authorities.length === 1, 20_000)
  const [old] = authorities.length === 1 ? authorities : (await trustOf(ann)).authorities
  // Only the keys of the root are left of it.
  await founder.end('SIGTERM')

  const heir = await laboratory.outsider('heir')
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
  await laboratory.run(heir, [ann])
  expect((await trustOf(heir)).standing).toEqual({ state: 'current' })
  await heir.json('trust', 'grant', 'heir/*', '--to', heir.peerId)
  await publish(heir, 'heir/tool', '1.0.0')

  await ann.end('SIGTERM')
  await laboratory.join(ann, heir)
  expect((await trustOf(ann)).standing).toEqual({ state: 'current' })
  await until('ann installs what the new authority published', () => ann.installs('heir/tool'), 20_000)
  await heir.json('trust', 'grant', 'acme/*', '--to', ann.peerId)
  // What stood below the stolen key stands no more, whoever signed it; its owner goes on with new versions.
  await publish(ann, 'acme/tool', '1.1.0')
  await until('the new authority installs what ann publishes', () => heir.installs('acme/tool@1.1.0'), 20_000)
  expect(await heir.installs('acme/tool@1.0.0')).toBe(false)

  // Whoever runs the old one is refused by everybody who knows the new root, and is told why.
  await laboratory.run(founder, [heir, ann])
  const isTold = async () => (await founder.run('status')).stdout.includes('by the root of the network')
  await until('the old authority hears of its end', isTold, 20_000)
  for (const node of [heir, ann]) expect(await node.isConnectedTo(founder)).toBe(false)
}, 180_000)

test('a member becomes an authority beside the first one, and keeps its names', async () => {
  const founder = await laboratory.node('first', 'beside')
  await laboratory.run(founder)
  const bob = await laboratory.joined('bob', founder)
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
  await laboratory.run(bob, [founder])
  await connected(bob, founder)
  const after = (await trustOf(bob)).publishers[0]
  expect(after).toMatchObject({ publisher: before?.publisher, names: ['bob/*'] })
  expect(after?.certificate).not.toBe(before?.certificate)
  await publish(bob, 'bob/tool', '1.1.0')
  for (const version of ['1.0.0', '1.1.0'])
    await until(`the founder installs ${version}`, () => founder.installs(`bob/tool@${version}`), 20_000)

  await founder.end('SIGTERM')
  const carol = await laboratory.joined('carol', bob)
  await bob.json('trust', 'grant', 'carol/*', '--to', carol.peerId)
  await publish(carol, 'carol/tool', '1.0.0')
  await until('bob installs it', () => bob.installs('carol/tool'), 20_000)
}, 180_000)
