import { afterEach, describe, expect, it } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { executeProtocol } from '../../src/execution/delegation-protocol.ts'
import type { Delegations } from '../../src/execution/delegations.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { about, executing, requesting, submissionOf } from './delegation-peers.ts'

const open: Delegations[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map(each => each.stop()))
})

function setUp(options: Parameters<typeof requesting>[1] = {}) {
  const network = new MemoryNetwork()
  const worker = executing(network)
  const user = requesting(network, options)
  open.push(user.delegations)
  return { network, worker, user }
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof CatalogError ? error.code : String(error)),
  )

async function until(holds: () => boolean, timeoutMs = 3_000): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !holds(); ) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()
const id = 'execution-1'

async function raw(
  from: { host: ReturnType<MemoryNetwork['createHost']> },
  to: string,
  question: Message,
): Promise<Message | undefined> {
  const stream = await from.host.open(to, executeProtocol)
  await stream.write(encodeFrame(question))
  return new FrameReader(stream).message(2 ** 20)
}

describe('a delegated execution', () => {
  it('is handed over with its input, and mirrored: states, output, the end', async () => {
    const { worker, user } = setUp()
    const input = new Uint8Array(200_000).fill(7)
    const record = await user.delegations.submit(worker.peer, submissionOf(id, input), about)
    expect(record).toMatchObject({
      id,
      state: 'queued',
      peer: worker.peer,
      requester: user.peer,
      name: 'work',
    })
    worker.executor.advance(id, { state: 'running' })
    await worker.executor.log(id).append('stdout', Buffer.from('hello '))
    await worker.executor.log(id).append('stderr', Buffer.from('oh'))
    await worker.executor.log(id).append('stdout', Buffer.from('world'))
    worker.executor.end(id, { exitCode: 3, state: 'failed' })
    await until(() => user.delegations.get(id)?.endedAt !== undefined)
    expect(user.delegations.get(id)).toMatchObject({ state: 'failed', exitCode: 3 })
    const logs = await user.delegations.logs(id)
    expect([text(logs.stdout), text(logs.stderr)]).toEqual(['hello world', 'oh'])
    const states: string[] = []
    for await (const event of user.delegations.follow(id)) if ('state' in event) states.push(event.state)
    expect(states).toEqual(['failed'])
  })

  it('submitted twice, one after the other or at once, runs once', async () => {
    const { worker, user } = setUp()
    const question = { op: 'submit', id, release: submissionOf(id).release, args: [], env: {}, input: 0 }
    await Promise.all([raw(user, worker.peer, question), raw(user, worker.peer, question)])
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    expect(worker.executor.submitted).toBe(1)
  })

  it('is asked for once more where the answer was lost, and runs once', async () => {
    const { network, worker, user } = setUp()
    const submit = worker.executor.submit.bind(worker.executor)
    let first = true
    worker.executor.submit = async (...args) => {
      const record = await submit(...args)
      if (first) network.cut(worker.peer, user.peer)
      first = false
      return record
    }
    expect((await user.delegations.submit(worker.peer, submissionOf(id), about)).state).toBe('queued')
    expect(worker.executor.submitted).toBe(1)
  })

  it('whose caller gave up before the answer is ended there', async () => {
    const { worker, user } = setUp()
    const submit = worker.executor.submit.bind(worker.executor)
    const leave = new AbortController()
    worker.executor.submit = async (...args) => {
      const record = await submit(...args)
      leave.abort(new CatalogError('cancelled', 'the user left'))
      await new Promise(resolve => setTimeout(resolve, 20))
      return record
    }
    expect(
      await codeOf(user.delegations.submit(worker.peer, submissionOf(id), about, { signal: leave.signal })),
    ).toBe('cancelled')
    await until(() => worker.executor.get(id)?.state === 'cancelled')
  })

  it('is seen, followed and cancelled only by who submitted it', async () => {
    const { network, worker, user } = setUp()
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    const stranger = { host: network.createHost() }
    for (const op of ['view', 'cancel', 'follow'])
      expect(await raw(stranger, worker.peer, { op, id })).toMatchObject({
        error: { code: 'no-such-execution' },
      })
    const theft = { op: 'submit', id, release: submissionOf(id).release, args: [], env: {}, input: 0 }
    expect(await raw(stranger, worker.peer, theft)).toMatchObject({ error: { code: 'no-such-execution' } })
    expect(worker.executor.get(id)?.state).toBe('queued')
    expect(worker.executor.submitted).toBe(1)
  })

  it('is cancelled from here', async () => {
    const { worker, user } = setUp()
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    expect(await user.delegations.cancel(id)).toMatchObject({ state: 'cancelled' })
  })

  it('whose stream breaks off is followed again, and no output comes twice', async () => {
    const { network, worker, user } = setUp({ lostAfterMs: 5_000 })
    worker.executor.keptBytes = 10
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    worker.executor.advance(id, { state: 'running' })
    let written = ''
    for (let part = 0; part < 6; part++) {
      const piece = `part ${part};`
      written += piece
      await worker.executor.log(id).append('stdout', Buffer.from(piece))
      await until(() => worker.executor.log(id).kept('stdout').total === written.length)
      await new Promise(resolve => setTimeout(resolve, 30))
      network.cut(worker.peer, user.peer)
      // Only once it is followed again: what is written between is not kept by a node that keeps ten bytes.
      await new Promise(resolve => setTimeout(resolve, 60))
    }
    worker.executor.end(id)
    await until(() => user.delegations.get(id)?.endedAt !== undefined)
    expect(text((await user.delegations.logs(id)).stdout)).toBe(written)
  })

  it('that ended while its node restarted is told as that node tells it', async () => {
    const { network, worker, user } = setUp({ lostAfterMs: 5_000 })
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    worker.executor.advance(id, { state: 'running' })
    await worker.executor.log(id).append('stdout', Buffer.from('before'))
    await new Promise(resolve => setTimeout(resolve, 30))
    await worker.host.stop()
    worker.executor.end(id, { state: 'lost', reason: 'the daemon ended before the execution did' })
    await worker.host.start()
    await until(() => user.delegations.get(id)?.endedAt !== undefined)
    expect(user.delegations.get(id)).toMatchObject({
      state: 'lost',
      reason: 'the daemon ended before the execution did',
    })
    expect(text((await user.delegations.logs(id)).stdout)).toBe('before')
    expect(network.find(user.peer, worker.peer)).toBeDefined()
  })

  it('on a node that cannot be reached any more is lost, after a while', async () => {
    const { network, worker, user } = setUp({ lostAfterMs: 200 })
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    await new Promise(resolve => setTimeout(resolve, 30))
    network.partition([worker.peer], [user.peer])
    await new Promise(resolve => setTimeout(resolve, 60))
    expect(user.delegations.get(id)?.state).toBe('queued')
    await until(() => user.delegations.get(id)?.state === 'lost')
    expect(user.delegations.get(id)?.reason).toMatch(/cannot be reached/)
  })

  it('on a node that has forgotten it is lost at once', async () => {
    const { network, worker, user } = setUp({ lostAfterMs: 60_000 })
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    await new Promise(resolve => setTimeout(resolve, 20))
    worker.executor.records.delete(id)
    network.cut(worker.peer, user.peer)
    await until(() => user.delegations.get(id)?.state === 'lost')
  })

  it('is taken up again after a restart of this node', async () => {
    const { network, worker, user } = setUp()
    await user.delegations.submit(worker.peer, submissionOf(id), about)
    await worker.executor.log(id).append('stdout', Buffer.from('one '))
    await user.delegations.stop()
    await worker.executor.log(id).append('stdout', Buffer.from('two'))
    const { Delegations } = await import('../../src/execution/delegations.ts')
    const again = new Delegations({
      host: user.host,
      records: user.records,
      log: { error() {}, warn() {}, info() {}, debug() {} },
    })
    open.push(again)
    await again.load()
    await again.start()
    worker.executor.end(id)
    await until(() => again.get(id)?.endedAt !== undefined)
    expect(text((await again.logs(id)).stdout)).toBe('one two')
    expect(network.find(user.peer, worker.peer)).toBeDefined()
  })

  it('is refused before its input is read where nothing is offered', async () => {
    const network = new MemoryNetwork()
    const worker = executing(network, false)
    const { host } = requesting(network)
    const stream = await host.open(worker.peer, executeProtocol)
    await stream.write(
      encodeFrame({
        op: 'submit',
        id,
        release: submissionOf(id).release,
        args: [],
        env: {},
        input: 16 * 1024 * 1024,
      }),
    )
    expect(await new FrameReader(stream).message(4096)).toMatchObject({ error: { code: 'not-offered' } })
  })

  it('inputs on their way are bounded together', async () => {
    const { network, worker } = setUp()
    const answers: (Message | undefined)[] = []
    const streams: ByteStream[] = []
    for (let at = 0; at < 6; at++) {
      const { host } = requesting(network)
      const stream = await host.open(worker.peer, executeProtocol)
      streams.push(stream)
      await stream.write(
        encodeFrame({
          op: 'submit',
          id: `execution-${at}`,
          release: submissionOf(id).release,
          args: [],
          env: {},
          input: 16 * 1024 * 1024,
        }),
      )
      void new FrameReader(stream).message(4096).then(
        answer => answers.push(answer),
        () => undefined,
      )
    }
    await until(() => answers.length === 2)
    for (const answer of answers) expect(answer).toMatchObject({ error: { code: 'busy' } })
    for (const stream of streams) stream.abort(new Error('enough'))
    const { delegations } = requesting(network)
    open.push(delegations)
    await new Promise(resolve => setTimeout(resolve, 20))
    expect(
      (await delegations.submit(worker.peer, submissionOf('execution-9', new Uint8Array(1000)), about)).state,
    ).toBe('queued')
  })
})

describe('an executing node that does harm', () => {
  const view = (fields: Record<string, unknown> = {}) => ({
    view: JSON.stringify({
      id,
      state: 'queued',
      allocated: { cpuCores: 1, memoryMb: 1, storageMb: 1, runSeconds: 1 },
      ...fields,
    }),
  })

  function hostile(network: MemoryNetwork, onFollow: (stream: ByteStream) => Promise<void>) {
    const host = network.createHost()
    let follows = 0
    host.handle(
      executeProtocol,
      async stream => {
        const question = await new FrameReader(stream).message(2 ** 20)
        if (question?.['op'] !== 'follow') return stream.write(encodeFrame(view()))
        follows += 1
        await onFollow(stream)
      },
      { maxInboundPerPeer: 64, maxInbound: 64 },
    )
    return { host, peer: host.peer, follows: () => follows }
  }

  it('repeats states without end: each is kept once', async () => {
    const network = new MemoryNetwork()
    const worker = hostile(network, async stream => {
      for (let at = 0; at < 3_000; at++)
        await stream.write(
          encodeFrame({ state: ['queued', 'running', 'fetching', 'succeeded', 'nonsense'][at % 5] }),
        )
      await stream.write(encodeFrame(view({ state: 'succeeded', endedAt: '2026-01-01T00:00:01.000Z' })))
    })
    const { delegations, records } = requesting(network)
    open.push(delegations)
    let puts = 0
    const batch = records.batch.bind(records)
    records.batch = async writes => {
      puts += 1
      await batch(writes)
    }
    await delegations.submit(worker.peer, submissionOf(id), about)
    await until(() => delegations.get(id)?.endedAt !== undefined)
    expect(puts).toBeLessThan(8)
  })

  it('sends a view too large to be read again: the record stays small, and this node starts', async () => {
    const network = new MemoryNetwork()
    const error = { code: 'x', message: 'y', data: Array.from({ length: 60_000 }, () => 1.5) }
    const worker = hostile(network, stream => stream.write(encodeFrame(view({ state: 'failed', error }))))
    const { delegations, host, records } = requesting(network)
    open.push(delegations)
    await delegations.submit(worker.peer, submissionOf(id), about)
    await until(() => delegations.get(id)?.endedAt !== undefined)
    const { Delegations } = await import('../../src/execution/delegations.ts')
    const again = new Delegations({ host, records, log: { error() {}, warn() {}, info() {}, debug() {} } })
    await again.load()
    expect(again.get(id)).toMatchObject({ state: 'failed', error: { code: 'x', message: 'y' } })
  })

  it.each<[string, (stream: ByteStream) => Promise<void>]>([
    [
      'ends the events in a state that is no end',
      stream => stream.write(encodeFrame(view({ state: 'running' }))),
    ],
    ['sends garbage', stream => stream.write(Buffer.alloc(100, 0xff))],
    ['sends a view that is none', stream => stream.write(encodeFrame({ view: '{"state":7}' }))],
    ['closes at once', stream => stream.close()],
  ])('%s: the execution is lost after a while', async (_what, onFollow) => {
    const network = new MemoryNetwork()
    const worker = hostile(network, onFollow)
    const { delegations } = requesting(network, { lostAfterMs: 150 })
    open.push(delegations)
    await delegations.submit(worker.peer, submissionOf(id), about)
    await until(() => delegations.get(id)?.state === 'lost')
    expect(worker.follows()).toBeLessThan(20)
  })

  it('falls silent on every stream: it is found out, and the execution is lost', async () => {
    const network = new MemoryNetwork()
    const host = network.createHost()
    let asked = 0
    host.handle(
      executeProtocol,
      async stream => {
        await new FrameReader(stream).message(2 ** 20)
        if (asked++ === 0) await stream.write(encodeFrame(view()))
        else await new Promise(() => undefined)
      },
      { maxInboundPerPeer: 64, maxInbound: 64 },
    )
    const { delegations } = requesting(network, { lostAfterMs: 200, probeMs: 50 })
    open.push(delegations)
    await delegations.submit(host.peer, submissionOf(id), about)
    await until(() => delegations.get(id)?.state === 'lost')
  })

  it('an answered error with an unknown code, or the name of a built-in, is no code of ours', async () => {
    for (const code of ['toString', 'constructor', 'whatever', 7]) {
      const network = new MemoryNetwork()
      const host = network.createHost()
      host.handle(executeProtocol, stream => stream.write(encodeFrame({ error: { code, message: 'no' } })), {
        maxInboundPerPeer: 4,
        maxInbound: 4,
      })
      const { delegations } = requesting(network)
      expect(await codeOf(delegations.submit(host.peer, submissionOf(id), about))).toBe('bad-peer-message')
    }
  })
})
