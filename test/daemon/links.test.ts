// Links of a stated rate between network namespaces: a fetch uses what the link has, and several links add up. Each
// ratio is taken within one turn; on a machine that is busy with other things a later turn may do.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { Namespace, namespacesMissing } from '../../bench/namespace.ts'
import { Laboratory, type TestNode, until, type Wrap } from './harness.ts'

const laboratory = new Laboratory()
const rawStream = fileURLToPath(new URL('../../bench/raw-stream.ts', import.meta.url))
const missing = await namespacesMissing()
if (missing !== undefined) console.log(`SKIP links: ${missing}`)

const opened: { end(): void }[] = []
afterAll(() => {
  for (const each of opened) each.end()
})

async function place(): Promise<{ namespace: Namespace; within: Wrap }> {
  const namespace = await Namespace.open()
  opened.push({ end: () => namespace.close() })
  return { namespace, within: (command, args) => namespace.command(command, args) }
}

/** Runs bench/raw-stream.ts in a namespace; resolves to the line that it prints. */
function raw(namespace: Namespace, args: readonly string[]): Promise<string> {
  const child = spawn(...namespace.command(process.execPath, [rawStream, ...args]), {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  opened.push({ end: () => child.kill('SIGKILL') })
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve)
    child.once('close', code => reject(new Error(`the raw stream ended with ${code}`)))
  })
}

async function knowing(node: TestNode, id: string): Promise<void> {
  await until('the receiver knows it', async () =>
    (await node.client.releases(false)).some(release => release.id === id),
  )
}

/** Milliseconds of a fetch into the store, as the asker sees it; the node forgets it again. */
async function fetchTime(node: TestNode, id: string): Promise<number> {
  const started = performance.now()
  const { bytesTransferred, bytes } = await node.fetch(id)
  const milliseconds = performance.now() - started
  expect(bytesTransferred).toBeGreaterThanOrEqual(bytes)
  await node.client.remove(id)
  return milliseconds
}

/** The best of a few turns, since other work on this machine can only make a turn worse; stops at the first that will do. */
async function bestOf(turns: number, enough: number, turn: () => Promise<number>): Promise<number> {
  let best = 0
  for (let at = 0; at < turns && best < enough; at++) best = Math.max(best, await turn())
  return best
}

describe.skipIf(missing !== undefined)('over a link', () => {
  it.each([
    { megabits: 10, mebibytes: 3 },
    { megabits: 100, mebibytes: 30 },
  ])('of $megabits Mbit/s a fetch reaches 0.95 of one raw stream', async ({ megabits, mebibytes }) => {
    const [near, far] = [await place(), await place()]
    const { to } = await Namespace.link(near.namespace, far.namespace, 1, megabits)
    const sender = await laboratory.node(`sender-${megabits}`)
    await sender.start(['--listen', `/ip4/${to}/udp/0/quic-v1`], process.env, far.within)
    const receiver = await laboratory.node(`receiver-${megabits}`)
    await receiver.start(
      ['--listen', '/ip4/0.0.0.0/udp/0/quic-v1', '--bootstrap', sender.address],
      process.env,
      near.within,
    )
    const address = await raw(far.namespace, [String(mebibytes), 'send', to])
    const path = await laboratory.package(`over-${megabits}`, '1.0.0', {
      'data.bin': randomBytes(mebibytes * 1024 * 1024),
    })
    const { id } = await sender.client.publish({ path })
    await knowing(receiver, id)
    const ratio = await bestOf(4, 0.95, async () => {
      const reference = Number(await raw(near.namespace, [String(mebibytes), 'receive', address]))
      // The link is what bounds it: without that the ratio would say nothing.
      expect((mebibytes * 8 * 1.048576) / (reference / 1000)).toBeLessThanOrEqual(megabits * 1.02)
      return reference / (await fetchTime(receiver, id))
    })
    expect(ratio).toBeGreaterThanOrEqual(0.95)
    await Promise.all([sender.end('SIGKILL'), receiver.end('SIGKILL')])
  })

  it('that begins to swallow TCP, a fetch goes on over QUIC, and the next begins there', async () => {
    const [near, far] = [await place(), await place()]
    const { to } = await Namespace.link(near.namespace, far.namespace, 1, 100)
    const sender = await laboratory.node('swallowed-sender')
    await sender.start(['--listen', `/ip4/${to}/udp/0/quic-v1`], process.env, far.within)
    const receiver = await laboratory.node('swallowed-receiver')
    await receiver.start(
      ['--listen', '/ip4/0.0.0.0/udp/0/quic-v1', '--bootstrap', sender.address],
      process.env,
      near.within,
    )
    const path = await laboratory.package('swallowed', '1.0.0', { 'data.bin': randomBytes(32 * 1024 * 1024) })
    const { id } = await sender.client.publish({ path })
    await knowing(receiver, id)
    const dataConnections = async () => (await receiver.client.peers())[0]?.dataConnections
    const fetching = fetchTime(receiver, id)
    await until('it moves over a data connection', async () => (await dataConnections()) === 1)
    for (const { namespace } of [near, far])
      await namespace.run('ip', ['rule', 'add', 'priority', '1', 'ipproto', 'tcp', 'blackhole'])
    // Nothing for five seconds is what makes it leave; what came is not asked for again.
    expect(await fetching).toBeLessThan(30_000)
    expect(await dataConnections()).toBe(0)
    expect(await fetchTime(receiver, id)).toBeLessThan(10_000)
    await Promise.all([sender.end('SIGKILL'), receiver.end('SIGKILL')])
  })

  it('four providers, each behind 20 Mbit/s of its own, give three times what one gives', async () => {
    const hub = await place()
    // What they hold comes over the common loopback; then each starts again behind a link of its own.
    const first = await laboratory.started('end-1')
    const others = [2, 3, 4].map(at => laboratory.started(`end-${at}`, [first]))
    const nodes = [first, ...(await Promise.all(others))]
    const data = () => ({ 'data.bin': randomBytes(16 * 1024 * 1024) })
    const shared = await first.client.publish({ path: await laboratory.package('shared', '1.0.0', data()) })
    for (const node of nodes.slice(1)) {
      await knowing(node, shared.id)
      await node.fetch(shared.id)
    }
    const alone = await first.client.publish({ path: await laboratory.package('alone', '1.0.0', data()) })
    for (const [at, node] of nodes.entries()) {
      const end = await place()
      const { to } = await Namespace.link(hub.namespace, end.namespace, at + 1, 20)
      await node.end('SIGTERM')
      await node.start(['--listen', `/ip4/${to}/udp/0/quic-v1`], process.env, end.within)
    }
    const receiver = await laboratory.node('hub')
    const joins = nodes.flatMap(node => ['--bootstrap', node.address])
    await receiver.start(['--listen', '/ip4/0.0.0.0/udp/0/quic-v1', ...joins], process.env, hub.within)
    await knowing(receiver, shared.id)
    await knowing(receiver, alone.id)
    await until(
      'the receiver sees four providers',
      async () => (await receiver.client.show(shared.id)).providers.length === 4,
    )
    const ratio = await bestOf(
      3,
      3,
      async () => (await fetchTime(receiver, alone.id)) / (await fetchTime(receiver, shared.id)),
    )
    expect(ratio).toBeGreaterThanOrEqual(3)
    await Promise.all([...nodes, receiver].map(node => node.end('SIGKILL')))
  })
})
