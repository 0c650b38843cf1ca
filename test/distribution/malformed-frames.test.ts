// N1: malformed frames on every protocol: nothing crashes, stalls or fills the memory, and honest peers are served.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { encodeCbor } from '../../src/base/cbor.ts'
import { encodeFrame, FrameReader, type Message } from '../../src/network/frames.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { content, executionId, records, wireNode } from '../network/wire-nodes.ts'

const frames = 10_000
const seed = Number(process.env['CATALOG_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

/** Bytes that are in use, garbage not counted. */
function bytesInUse(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Mulberry32: the same numbers for the same seed. */
function generator(from: number) {
  let state = from >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  const bytes = (length: number) => Uint8Array.from({ length }, () => below(256))
  const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T
  return { below, bytes, pick }
}

type Random = ReturnType<typeof generator>

const questions: Record<string, Message[]> = {
  '/transfer/1': [
    { id: 0, op: 'have', root: content.root },
    { id: 1, op: 'index', root: content.root, offset: 0, length: 1024 },
    { id: 2, op: 'shards', root: content.root, first: 0, count: 3 },
  ],
  '/sync/1': [
    { op: 'reconcile', ranges: [[new Uint8Array(0), 2, new Uint8Array(64)]] },
    { op: 'reconcile', ranges: [[new Uint8Array(0), 1, new Uint8Array(16)]] },
    { op: 'records', ids: [new Uint8Array(32)] },
    { op: 'news', ids: [new Uint8Array(32)] },
    { op: 'heads', name: 'word-count' },
    { op: 'root', root: content.root },
  ],
  '/execute/1': [
    { op: 'view', id: executionId },
    { op: 'cancel', id: executionId },
    { op: 'follow', id: 'execution-9' },
    { op: 'submit', id: 'execution-3', release: content.root, args: ['x'], env: { A: 'b' }, input: 0 },
    { op: 'offer', runtime: 'wasm', demand: { cpuCores: 1, memoryMb: 64 } },
  ],
}

function strangeValue(random: Random, depth = 0): unknown {
  const kind = random.below(depth > 3 ? 8 : 10)
  if (kind === 0) return -random.below(2 ** 31)
  if (kind === 1) return Number.MAX_SAFE_INTEGER - random.below(10)
  if (kind === 2) return random.below(1000) + 0.5
  if (kind === 3) return Buffer.from(random.bytes(random.below(64))).toString('latin1')
  if (kind === 4) return random.bytes(random.below(200))
  if (kind === 5) return random.pick([null, true, false])
  if (kind === 6) return '\u0000'.repeat(random.below(300))
  if (kind === 7) return random.below(10)
  if (kind === 8) return Array.from({ length: random.below(20) }, () => strangeValue(random, depth + 1))
  return { [random.pick(['op', 'id', 'root', '__proto__x', ''])]: strangeValue(random, depth + 1) }
}

const framed = (body: Uint8Array): Uint8Array => {
  const prefix = [body.byteLength & 0x7f]
  for (let rest = body.byteLength >>> 7; rest > 0; rest >>>= 7) {
    prefix[prefix.length - 1] = (prefix.at(-1) as number) | 0x80
    prefix.push(rest & 0x7f)
  }
  return Buffer.concat([Uint8Array.from(prefix), body])
}

/** One malformed input: noise, a damaged question, a question with strange fields, lies about lengths, deep nesting. */
function malformed(random: Random, honest: readonly Message[]): Uint8Array {
  const question = random.pick(honest)
  const frame = encodeFrame(question)
  switch (random.below(7)) {
    case 0:
      return random.bytes(1 + random.below(300))
    case 1: {
      const damaged = Uint8Array.from(frame)
      for (let flips = 1 + random.below(4); flips > 0; flips--)
        damaged[random.below(damaged.byteLength)] = random.below(256)
      return damaged
    }
    case 2:
      return frame.subarray(0, random.below(frame.byteLength))
    case 3: {
      const field = random.pick([...Object.keys(question), 'extra'])
      return encodeFrame({ ...question, [field]: strangeValue(random) })
    }
    case 4:
      return Buffer.concat([
        Uint8Array.of(0x80 | random.below(128), 0x80 | random.below(128), random.below(128)),
        random.bytes(random.below(200)),
      ])
    case 5: {
      const deep = 1 + random.below(900)
      return framed(Buffer.concat([new Uint8Array(deep).fill(0x81), encodeCbor(0)]))
    }
    default:
      return Buffer.concat([
        frame,
        frame.subarray(random.below(frame.byteLength)),
        random.bytes(random.below(50)),
      ])
  }
}

describe(`malformed frames (CATALOG_SEED=${seed})`, () => {
  it.each(Object.keys(questions))(
    `${frames} on %s: no crash, no stall, bounded memory, and honest questions are answered`,
    async protocol => {
      const network = new MemoryNetwork()
      const honest = network.createHost()
      const attacker = network.createHost()
      const server = await wireNode(network, honest.peer)
      const random = generator(seed)
      const faults: unknown[] = []
      const onFault = (error: unknown) => faults.push(error)
      process.on('unhandledRejection', onFault)
      process.on('uncaughtException', onFault)
      const before = bytesInUse()
      let slowestMs = 0
      for (let at = 0; at < frames; at++) {
        const cpu = process.cpuUsage()
        const stream = await attacker.open(server.peer, protocol)
        await stream.write(malformed(random, questions[protocol] as Message[])).catch(() => undefined)
        // Half of them say that this is all, the others leave the server waiting for more and go.
        if (at % 2 === 0) {
          await stream.closeWrite().catch(() => undefined)
          for (let piece: unknown = 0; piece !== undefined; )
            piece = await stream.read().catch(() => undefined)
        } else await new Promise(resolve => setImmediate(resolve))
        stream.abort(new Error('gone'))
        const { user, system } = process.cpuUsage(cpu)
        slowestMs = Math.max(slowestMs, (user + system) / 1000)
      }
      const grown = bytesInUse() - before
      process.off('unhandledRejection', onFault)
      process.off('uncaughtException', onFault)
      expect(faults).toEqual([])
      expect(slowestMs).toBeLessThan(200)
      expect(grown).toBeLessThan(64 * 1024 * 1024)
      const stream = await honest.open(server.peer, protocol)
      await stream.write(encodeFrame(questions[protocol]?.[0] as Message))
      expect(await new FrameReader(stream).message(1 << 20)).toBeDefined()
      expect(await server.store.state(content.root)).toBe('complete')
      expect(server.catalogue.count).toBe(records.releases.length)
    },
  )

  it.each<[string, string, Message, string | undefined]>([
    ['/transfer/1', 'no id', { op: 'have', root: content.root }, undefined],
    ['/transfer/1', 'a negative id', { id: -1, op: 'have', root: content.root }, undefined],
    ['/transfer/1', 'a root that is a number', { id: 0, op: 'have', root: 7 }, undefined],
    ['/transfer/1', 'a root of a megabyte', { id: 0, op: 'have', root: 'x'.repeat(2 ** 20) }, undefined],
    ['/transfer/1', 'a root that is a path', { id: 0, op: 'have', root: '../../etc/passwd' }, 'invalid'],
    ['/transfer/1', 'the name of a built-in', { id: 0, op: 'constructor', root: content.root }, 'invalid'],
    [
      '/transfer/1',
      'an index piece that is too long',
      { id: 0, op: 'index', root: content.root, offset: 0, length: 2 ** 30 },
      undefined,
    ],
    [
      '/transfer/1',
      'shards beyond the end',
      { id: 0, op: 'shards', root: content.root, first: 2, count: Number.MAX_SAFE_INTEGER },
      'invalid',
    ],
    [
      '/transfer/1',
      'a fractional shard',
      { id: 0, op: 'shards', root: content.root, first: 0.5, count: 1 },
      undefined,
    ],
    ['/sync/1', 'an unknown question', { op: 'everything' }, undefined],
    [
      '/sync/1',
      'too many ids',
      { op: 'records', ids: Array.from({ length: 65 }, () => new Uint8Array(32)) },
      undefined,
    ],
    ['/sync/1', 'an id of 31 bytes', { op: 'news', ids: [new Uint8Array(31)] }, undefined],
    [
      '/sync/1',
      'ranges out of order',
      {
        op: 'reconcile',
        ranges: [
          [new Uint8Array(32).fill(2), 0],
          [new Uint8Array(32).fill(1), 0],
        ],
      },
      undefined,
    ],
    ['/execute/1', 'an unknown field', { op: 'view', id: executionId, more: 1 }, undefined],
    ['/execute/1', 'an id that is a path', { op: 'view', id: '../../secret' }, undefined],
    [
      '/execute/1',
      'an input that is too large',
      { op: 'submit', id: 'execution-4', release: content.root, args: [], env: {}, input: 2 ** 30 },
      undefined,
    ],
    ['/execute/1', 'an execution of somebody else', { op: 'view', id: executionId }, 'no-such-execution'],
  ])('%s: %s', async (protocol, _what, question, code) => {
    const network = new MemoryNetwork()
    const server = await wireNode(network, 'somebody')
    const client = network.createHost()
    const stream = await client.open(server.peer, protocol)
    await stream.write(encodeFrame(question)).catch(() => undefined)
    const answer = await new FrameReader(stream).message(1 << 20).catch((error: Error) => error)
    if (code === undefined) expect(answer).toBeInstanceOf(Error)
    else expect(JSON.stringify(answer)).toContain(`"code":"${code}"`)
  })
})
