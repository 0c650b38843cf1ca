// DNS messages and records from anybody: golden bytes, and that nothing hostile gets further than an error.
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseDnsServer, parseNetworkName } from '../../src/base/network-name.ts'
import { askServer } from '../../src/network/dns/exchange.ts'
import { decodeAnswer, encodeQuery } from '../../src/network/dns/message.ts'
import { freePort } from './dns-server.ts'

const name = '_dnsaddr.net.test'
// RFC 1035, 4.1: header, question, and the OPT record of RFC 6891 with 1232 bytes.
const queryHex =
  '1234 0100 0001 0000 0000 0001' +
  '085f646e7361646472 036e6574 0474657374 00 0010 0001' +
  '00 0029 04d0 00000000 0000'

interface Record {
  owner?: Buffer
  type: number
  ttl?: number
  data: Buffer
}
const pointer = Buffer.from([0xc0, 12])
const txt = (...parts: string[]): Buffer =>
  Buffer.concat(parts.map(part => Buffer.concat([Buffer.from([part.length]), Buffer.from(part, 'latin1')])))

function message(records: readonly Record[], { flags = 0x8180, id = 0x1234, authority = 0 } = {}): Buffer {
  const header = Buffer.alloc(12)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(flags, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(records.length - authority, 6)
  header.writeUInt16BE(authority, 8)
  const bodies = records.map(({ owner = pointer, type, ttl = 60, data }) => {
    const fixed = Buffer.alloc(10)
    fixed.writeUInt16BE(type, 0)
    fixed.writeUInt16BE(1, 2)
    fixed.writeUInt32BE(ttl, 4)
    fixed.writeUInt16BE(data.length, 8)
    return Buffer.concat([owner, fixed, data])
  })
  const question = Buffer.from(encodeQuery(id, name)).subarray(12, -11)
  return Buffer.concat([header, question, ...bodies])
}

describe('DNS messages', () => {
  test('a query has these bytes', () => {
    expect(Buffer.from(encodeQuery(0x1234, name)).toString('hex')).toBe(queryHex.replaceAll(' ', ''))
  })

  test('the strings of a record are one text, its TTL the least on the way', () => {
    const other = Buffer.concat([Buffer.from([5]), Buffer.from('other'), Buffer.from([0xc0, 21])])
    const answer = decodeAnswer(
      message([
        { type: 5, ttl: 7, data: other },
        { owner: other, type: 16, ttl: 60, data: txt('one ', 'text') },
        { type: 16, data: txt('not where the alias leads') },
      ]),
      0x1234,
      name,
    )
    expect(answer).toEqual({
      responseCode: 0,
      truncated: false,
      texts: ['one text'],
      ttlSeconds: 7,
      cut: false,
    })
  })

  test('an absence holds for what the zone says; a TTL with the highest bit set is none', () => {
    const soa = Buffer.concat([Buffer.from([0, 0]), Buffer.alloc(16), Buffer.from([0, 0, 0, 30])])
    const absent = message([{ type: 6, ttl: 600, data: soa }], { authority: 1, flags: 0x8183 })
    expect(decodeAnswer(absent, 0x1234, name)).toMatchObject({ responseCode: 3, texts: [], ttlSeconds: 30 })
    const odd = message([{ type: 16, ttl: 0xffff_ffff, data: txt('x') }])
    expect(decodeAnswer(odd, 0x1234, name)).toMatchObject({ texts: ['x'], ttlSeconds: 0 })
  })

  test('what answers another question is none', () => {
    const good = message([{ type: 16, data: txt('x') }])
    expect(decodeAnswer(good, 0x1235, name)).toBeUndefined()
    expect(decodeAnswer(good, 0x1234, '_dnsaddr.not.test')).toBeUndefined()
    expect(decodeAnswer(message([], { flags: 0x0100 }), 0x1234, name)).toBeUndefined()
    expect(decodeAnswer(good.subarray(0, 11), 0x1234, name)).toBeUndefined()
  })

  test('names that point forwards, at themselves or out of the message are refused', () => {
    for (const owner of [[0xc0, 0xff], [0xc0, 35], [0xc0], [0x80], [63]]) {
      const bad = message([{ owner: Buffer.from(owner), type: 16, data: txt('x') }])
      expect(() => decodeAnswer(bad, 0x1234, name), String(owner)).toThrow('malformed')
    }
  })

  test('no bytes do more than throw or stay within the bounds', () => {
    const whole = message([
      { type: 5, data: Buffer.concat([Buffer.from([1, 97]), pointer]) },
      { type: 16, data: txt('dnsaddr=/ip4/192.0.2.1/tcp/1') },
    ])
    const change = fc.record({
      at: fc.nat(whole.length - 1),
      byte: fc.nat(255),
    })
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 6 }),
        fc.nat(whole.length),
        fc.uint8Array(),
        (changes, end, tail) => {
          const bytes = Buffer.concat([whole.subarray(0, Math.max(end, 40)), tail])
          for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte
          try {
            const answer = decodeAnswer(bytes, 0x1234, name)
            if (answer === undefined) return
            expect(answer.texts.length).toBeLessThanOrEqual(64)
            expect(answer.texts.join('').length).toBeLessThanOrEqual(4096)
            expect(answer.ttlSeconds ?? 0).toBeGreaterThanOrEqual(0)
          } catch (error) {
            expect((error as Error).message).toContain('malformed')
          }
        },
      ),
      { numRuns: 3000 },
    )
  })

  test('a liar that answers other questions is passed over; one that cuts off or floods over TCP is an error', async () => {
    const udp = createSocket('udp4')
    const port = await freePort()
    await new Promise<void>(resolve => udp.bind(port, '127.0.0.1', resolve))
    let flags = 0x8180
    udp.on('message', (query, { port, address }) => {
      const id = query.readUInt16BE(0)
      const lies = [
        Buffer.alloc(0),
        Buffer.from('noise'),
        message([{ type: 16, data: txt('lie') }], { id: id ^ 1 }),
      ]
      for (const lie of lies) udp.send(lie, port, address)
      udp.send(message([{ type: 16, data: txt('truth') }], { id, flags }), port, address)
    })
    let reply = Buffer.alloc(0)
    const tcp = createServer(socket =>
      socket.on('error', () => undefined).once('data', () => socket.end(reply)),
    )
    await new Promise<void>(resolve => tcp.listen(port, '127.0.0.1', resolve))
    const ask = () =>
      askServer({ host: '127.0.0.1', port }, name, { signal: AbortSignal.timeout(10_000), resendMs: 500 })
    try {
      expect((await ask()).texts).toEqual(['truth'])
      flags = 0x8380
      for (const [bytes, why] of [
        [Buffer.from([0xff, 0xff, 1]), 'at most'],
        [Buffer.from([0, 40, 1]), 'before its answer was whole'],
        [Buffer.from([0, 2, 1, 2]), 'not the answer'],
      ] as const) {
        reply = bytes
        await expect(ask(), why).rejects.toThrow(why)
      }
    } finally {
      udp.close()
      tcp.close()
    }
  })
})

describe('what is written in settings', () => {
  test('a name has several labels of letters, digits and dashes', () => {
    expect(parseNetworkName('Catalog.Example.org.')).toEqual({ name: 'catalog.example.org' })
    const peer = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
    expect(parseNetworkName(`/dnsaddr/a.b/p2p/${peer}`)).toEqual({ name: 'a.b', peer })
    for (const text of [
      '',
      'localhost',
      peer,
      '192.0.2.10',
      '192.0.2.10:4414',
      'a..b',
      '-a.b',
      'a_b.c',
      'a b.c',
      'a.b/c',
      'bücher.example',
      '/dnsaddr/a.b/p2p/',
      '/dnsaddr/a.b/tcp/1',
      '/ip4/192.0.2.1/tcp/1',
      `${'a'.repeat(64)}.b`,
      `${'a.'.repeat(130)}b`,
    ])
      expect(parseNetworkName(text), text).toBeUndefined()
  })

  test('a DNS server has an address, and maybe a port', () => {
    expect(parseDnsServer('192.0.2.53')).toEqual({ host: '192.0.2.53', port: 53 })
    expect(parseDnsServer('192.0.2.53:5353')).toEqual({ host: '192.0.2.53', port: 5353 })
    expect(parseDnsServer('2001:db8::53')).toEqual({ host: '2001:db8::53', port: 53 })
    expect(parseDnsServer('[2001:db8::53]:5353')).toEqual({ host: '2001:db8::53', port: 5353 })
    for (const text of [
      '',
      'dns.example',
      '192.0.2.53:0',
      '192.0.2.53:65536',
      '[192.0.2.1]:53',
      '300.0.2.1:53',
      '[::1]',
    ])
      expect(parseDnsServer(text), text).toBeUndefined()
  })
})
