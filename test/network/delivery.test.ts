// Many DHT messages to one peer over few streams, whatever the peer does; and the bytes of those messages.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isCatalogError } from '../../src/base/errors.ts'
import { FrameReader } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { type Delivery, deliver } from '../../src/network/kad/delivery.ts'
import {
  addProviderMessage,
  parseAnswer,
  pingMessage,
  putValueMessage,
} from '../../src/network/kad/messages.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'

const options = {
  maxStreamBytes: 10_000,
  maxStreamMessages: 100,
  answerTimeoutMs: 300,
  maxBroken: 4,
  maxAnswerBytes: 1000,
}

const key = (n: number) => new TextEncoder().encode(`key ${String(n).padStart(4, '0')}`)
const deliveries = (count: number): Delivery[] =>
  Array.from({ length: count }, (_, n) => ({
    bytes: putValueMessage(key(n), new Uint8Array(90).fill(n)),
    confirms: answer => answer.record?.[0] === n % 256,
  }))

/** Delivers to a peer that answers each message as `answer` says: bytes, or nothing, or by throwing. */
async function run(
  messages: readonly Delivery[],
  answer: (message: Uint8Array, stream: ByteStream) => Promise<Uint8Array | undefined>,
) {
  const network = new MemoryNetwork()
  const [self, peer] = [network.createHost(), network.createHost()]
  await Promise.all([self.start(), peer.start()])
  let streams = 0
  peer.handle(
    '/kad/1.0.0',
    async stream => {
      streams++
      const reader = new FrameReader(stream)
      for (
        let bytes = await reader.block(100_000);
        bytes !== undefined;
        bytes = await reader.block(100_000)
      ) {
        const reply = await answer(bytes, stream)
        if (reply !== undefined) await stream.write(reply)
      }
      await stream.close()
    },
    { maxInboundPerPeer: 8, maxInbound: 8 },
  )
  try {
    const open = () => self.open(peer.peer, '/kad/1.0.0')
    const { confirmed, broken } = await deliver(messages, open, options, new AbortController().signal)
    return { confirmed, broken, streams }
  } finally {
    await Promise.all([self.stop(), peer.stop()])
  }
}

const echo = (message: Uint8Array) => new Uint8Array([message.byteLength, ...message])
const misses = (confirmed: readonly boolean[]) => confirmed.flatMap((is, n) => (is ? [] : [n]))

describe('delivering', () => {
  test('many messages take few streams, and each is confirmed', async () => {
    const { confirmed, broken, streams } = await run(deliveries(500), async message => echo(message))
    expect(misses(confirmed)).toEqual([])
    expect(broken).toBeUndefined()
    // 106 bytes each: 94 fit into one stream.
    expect(streams).toBe(6)
  })

  test('what is refused by a reset is skipped, and the rest goes on', async () => {
    const refused = [7, 8, 150]
    const { confirmed, broken, streams } = await run(deliveries(200), async message => {
      const text = new TextDecoder().decode(message.subarray(2, 10))
      if (refused.includes(Number(text.slice(4)))) throw new Error('quota')
      return echo(message)
    })
    expect(misses(confirmed)).toEqual(refused)
    expect(broken).toBeDefined()
    expect(streams).toBeLessThanOrEqual(6)
  })

  test('an answer that says something else confirms nothing', async () => {
    const { confirmed } = await run(deliveries(20), async message => {
      const other = message.slice()
      other[other.length - 90] = 77
      return echo(other)
    })
    expect(confirmed).not.toContain(true)
  })

  test('a peer that refuses everything is left after a few streams', async () => {
    const { confirmed, streams } = await run(deliveries(500), async () => {
      throw new Error('no')
    })
    expect(confirmed).not.toContain(true)
    expect(streams).toBe(options.maxBroken)
  })

  test('a peer that never answers is left at once, one that answers nonsense soon', async () => {
    const before = performance.now()
    const silent = await run(deliveries(500), async () => void (await sleep(2000)))
    expect(silent.confirmed).not.toContain(true)
    expect(silent.streams).toBe(1)
    expect(performance.now() - before).toBeLessThan(10_000)
    for (const nonsense of [
      [0xff, 0xff, 0xff, 0xff, 0xff],
      [3, 0x12, 0x7f, 0],
      [0xff, 0x7f],
      [2, 0xff, 0xff],
    ]) {
      const { confirmed } = await run(deliveries(50), async () => new Uint8Array(nonsense))
      expect(confirmed).not.toContain(true)
    }
  })

  test('a peer that cannot be reached is not tried again', async () => {
    let tries = 0
    const open = async (): Promise<ByteStream> => {
      tries++
      throw new Error('unreachable')
    }
    const { confirmed, broken } = await deliver(deliveries(3), open, options, new AbortController().signal)
    expect([confirmed, broken?.message, tries]).toEqual([[false, false, false], 'unreachable', 1])
  })
})

describe('the messages', () => {
  test('have these bytes', () => {
    const vectors = JSON.parse(
      readFileSync(new URL('../vectors/kad-messages-v1.json', import.meta.url), 'utf8'),
    ) as Record<string, string>
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
    expect(hex(pingMessage())).toBe(vectors['ping'])
    expect(hex(putValueMessage(key(1), new Uint8Array([1, 2, 3])))).toBe(vectors['putValue'])
    const provider = addProviderMessage(key(2), new Uint8Array([4, 5]), [new Uint8Array(200).fill(6)])
    expect(hex(provider)).toBe(vectors['addProvider'])
  })

  test('any bytes are an answer or refused as a peer’s fault', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        try {
          parseAnswer(bytes)
        } catch (error) {
          expect(isCatalogError(error) && error.code).toBe('bad-peer-message')
        }
      }),
      { numRuns: 2000 },
    )
  })
})
