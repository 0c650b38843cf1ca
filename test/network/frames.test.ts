import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { syncProtocol } from '../../src/distribution/sync.ts'
import { defaultLaneOptions, TransferLane } from '../../src/distribution/transfer-lane.ts'
import { transferProtocol } from '../../src/distribution/transfer-protocol.ts'
import { executeProtocol } from '../../src/execution/delegation-protocol.ts'
import { encodeFrame, FrameReader, listField, naturalField, textField } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { about, requesting, submissionOf } from '../execution/delegation-peers.ts'
import { content, executionId, wireNode } from './wire-nodes.ts'

/** A stream that gives these pieces, then ends. */
function streamOf(...pieces: readonly Uint8Array[]): ByteStream {
  const left = [...pieces]
  return {
    peer: 'peer',
    read: async () => left.shift(),
    write: async () => undefined,
    closeWrite: async () => undefined,
    close: async () => undefined,
    abort: () => undefined,
  }
}

const bad = { code: 'bad-peer-message' }

describe('frames', () => {
  it('come back whole, however the stream cuts them, with raw bytes between them', async () => {
    const value = fc.oneof(
      fc.integer(),
      fc.string(),
      fc.uint8Array({ maxLength: 300 }),
      fc.boolean(),
      fc.constant(null),
    )
    const message = fc.dictionary(
      fc.string({ maxLength: 10 }).filter(key => key !== '__proto__'),
      fc.oneof(value, fc.array(value)),
      { noNullPrototype: true },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(message, fc.uint8Array({ maxLength: 50 })), { maxLength: 5 }),
        fc.integer({ min: 1, max: 40 }),
        async (messages, size) => {
          const wire = Buffer.concat(messages.flatMap(([each, raw]) => [encodeFrame(each), raw]))
          const pieces = Array.from({ length: Math.ceil(wire.byteLength / size) }, (_, i) =>
            wire.subarray(i * size, (i + 1) * size),
          )
          const reader = new FrameReader(streamOf(...pieces))
          for (const [each, raw] of messages) {
            expect(await reader.message(1 << 20)).toEqual(each)
            expect(Buffer.compare(await reader.bytes(raw.byteLength), raw)).toBe(0)
          }
          expect(await reader.message(1 << 20)).toBeUndefined()
          expect(reader.received).toBe(wire.byteLength)
        },
      ),
    )
  })

  it.each<[string, Uint8Array[]]>([
    ['a length over the limit', [Uint8Array.of(0x81, 0x08)]],
    ['a length of five bytes', [Uint8Array.of(0x80, 0x80, 0x80, 0x80, 0x01)]],
    ['an end within the length', [Uint8Array.of(0x80)]],
    ['an end within the body', [Uint8Array.of(5, 0xa0)]],
    ['an empty body', [Uint8Array.of(0)]],
    ['no CBOR', [Uint8Array.of(1, 0xff)]],
    ['bytes after the value', [Uint8Array.of(2, 0xa0, 0xa0)]],
    ['a list', [Uint8Array.of(1, 0x80)]],
    ['a number', [Uint8Array.of(1, 0x01)]],
    ['bytes', [Uint8Array.of(2, 0x41, 0x00)]],
    [
      'a map in another order than the canonical one',
      [Uint8Array.of(7, 0xa2, 0x61, 0x62, 0x01, 0x61, 0x61, 0x02)],
    ],
    ['a number in more bytes than it needs', [Uint8Array.of(6, 0xa1, 0x61, 0x61, 0x18, 0x01)]],
    ['a list of endless length', [Uint8Array.of(5, 0xa1, 0x61, 0x61, 0x9f, 0xff)]],
  ])('refuse %s', async (_what, pieces) => {
    await expect(new FrameReader(streamOf(...pieces)).message(1024)).rejects.toMatchObject(bad)
  })

  it('allocate nothing for a length that is refused', async () => {
    const before = process.memoryUsage().arrayBuffers
    await expect(
      new FrameReader(streamOf(Uint8Array.of(0xff, 0xff, 0xff, 0x7f))).message(1024),
    ).rejects.toMatchObject(bad)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
  })

  it('have fields that are checked', () => {
    for (const value of [-1, 1.5, Number.NaN, '1', null, undefined, 11, 2 ** 60])
      expect(() => naturalField({ field: value }, 'field', 10)).toThrow(/no valid field/)
    for (const value of [1, 'long', null, undefined])
      expect(() => textField({ field: value }, 'field', 3)).toThrow(/no valid field/)
    for (const value of ['x', [1, 2], {}, undefined])
      expect(() => listField({ field: value }, 'field', 1)).toThrow(/no valid field/)
  })
})

interface Exchange {
  readonly protocol: string
  readonly what: string
  /** Hexadecimal: what the client sends, and all that the server answers. */
  readonly question: string
  readonly answer: string
}

const golden = JSON.parse(
  readFileSync(new URL('../vectors/frames-v1.json', import.meta.url), 'utf8'),
) as Exchange[]

describe('golden bytes', () => {
  it.each(golden.map(each => [`${each.protocol} ${each.what}`, each] as const))(
    '%s',
    async (_name, { protocol, question, answer }) => {
      const network = new MemoryNetwork()
      const client = network.createHost('client')
      const server = await wireNode(network, client.peer)
      const stream = await client.open(server.peer, protocol)
      await stream.write(Buffer.from(question, 'hex'))
      await stream.closeWrite()
      const pieces: Uint8Array[] = []
      for (let piece = await stream.read(); piece !== undefined; piece = await stream.read())
        pieces.push(piece)
      expect(Buffer.concat(pieces).toString('hex')).toBe(answer)
    },
  )

  it('are what the client halves send', async () => {
    const network = new MemoryNetwork()
    const heard: string[] = []
    const deaf = network.createHost()
    for (const protocol of [transferProtocol, syncProtocol, executeProtocol])
      deaf.handle(
        protocol,
        async stream => {
          const pieces: Uint8Array[] = []
          const collected = (async () => {
            for (let piece = await stream.read(); piece !== undefined; piece = await stream.read())
              pieces.push(piece)
          })().catch(() => undefined)
          await Promise.race([collected, new Promise(resolve => setTimeout(resolve, 20))])
          heard.push(Buffer.concat(pieces).toString('hex'))
        },
        { maxInboundPerPeer: 64, maxInbound: 64 },
      )
    const question = (what: string) => golden.find(each => each.what === what)?.question as string
    const ask = async (what: string, work: (peer: string) => Promise<unknown>) => {
      await work(deaf.peer).catch(() => undefined)
      expect([what, heard.pop()]).toEqual([what, question(what)])
    }
    const client = requesting(network)
    const lane = () => TransferLane.open(client.host, deaf.peer, defaultLaneOptions, {})
    await ask('have', async () => (await lane()).have(content.root))
    await ask('index', async () => (await lane()).index(content.root, 1024))
    await ask('shards', async () =>
      (await lane()).shards(content.root, 0, [16, 16, 8], async () => undefined),
    )
    await ask('small', async () => (await lane()).small(content.root, 1_048_576))
    await ask('submit with input', peer =>
      client.delegations.submit(peer, submissionOf('execution-2', Buffer.from('in')), about),
    )
    await ask('cancel', async peer => {
      const { host } = client
      const stream = await host.open(peer, executeProtocol)
      await stream.write(encodeFrame({ op: 'cancel', id: executionId }))
      await new FrameReader(stream).message(1024)
    })
  })
})
