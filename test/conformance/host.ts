// What every Host must do, whatever carries its streams.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Admissions } from '../../src/network/admission.ts'
import { type ByteStream, type Host, maxBufferedBytes } from '../../src/network/host.ts'
import { everybody, MemberList } from '../network/admissions.ts'

export interface HostPair {
  /** Two running hosts of one network that have not met. */
  readonly a: Host
  readonly b: Host
  stop(): Promise<void>
}

const limits = { maxInboundPerPeer: 4, maxInbound: 8 }
const bytes = (text: string) => new TextEncoder().encode(text)

export async function readAll(stream: ByteStream): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for (let chunk = await stream.read(); chunk !== undefined; chunk = await stream.read()) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Waits until it is so, for at most five seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('it did not come about within 5 s')
    await sleep(10)
  }
}

export type MakePair = (admissions: { readonly a: Admissions; readonly b: Admissions }) => Promise<HostPair>

export function hostConformance(name: string, makePair: MakePair): void {
  describe(`${name} is a Host`, () => {
    let pair: HostPair
    let a: Host
    let b: Host

    const start = async (admissions: Parameters<MakePair>[0]) => {
      pair = await makePair(admissions)
      ;({ a, b } = pair)
    }
    beforeEach(() => start({ a: everybody, b: everybody }))
    afterEach(() => pair.stop())

    const meet = async () => {
      expect(await a.dial(b.addresses()[0] as string)).toBe(b.peer)
      await until(() => a.isConnected(b.peer) && b.isConnected(a.peer))
    }

    test('addresses name the peer', () => {
      expect(b.addresses().length).toBeGreaterThan(0)
      for (const address of b.addresses()) expect(address).toMatch(new RegExp(`/p2p/${b.peer}$`))
    })

    test('both sides see a connection come and go', async () => {
      const seen: string[] = []
      a.onPeer((peer, change) => seen.push(`a ${peer === b.peer} ${change}`))
      const unsubscribe = b.onPeer((peer, change) => seen.push(`b ${peer === a.peer} ${change}`))
      await meet()
      expect(a.connections().map(view => [view.peer, view.direction])).toEqual([[b.peer, 'outbound']])
      expect(b.connections().map(view => [view.peer, view.direction])).toEqual([[a.peer, 'inbound']])
      unsubscribe()
      await a.disconnect(b.peer)
      await until(() => !a.isConnected(b.peer) && !b.isConnected(a.peer))
      expect(seen.sort()).toEqual(['a true connected', 'a true disconnected', 'b true connected'])
    })

    test('bytes arrive in order, and each side ends its own direction', async () => {
      b.handle(
        '/upper/1',
        async stream => {
          expect(stream.peer).toBe(a.peer)
          const text = (await readAll(stream)).toString()
          await stream.write(bytes(text.toUpperCase()))
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/upper/1')
      await stream.write(bytes('half '))
      await stream.write(bytes('closed'))
      await stream.closeWrite()
      expect((await readAll(stream)).toString()).toBe('HALF CLOSED')
      await stream.close()
    })

    test('a read gives at most what was asked for', async () => {
      b.handle('/ten/1', async stream => stream.write(bytes('0123456789')), limits)
      await meet()
      const stream = await a.open(b.peer, '/ten/1')
      expect(Buffer.from((await stream.read(4)) as Uint8Array).toString()).toBe('0123')
      expect(Buffer.from((await stream.read(3)) as Uint8Array).toString()).toBe('456')
      expect((await readAll(stream)).toString()).toBe('789')
      expect(await stream.read()).toBeUndefined()
    })

    test('several megabytes cross in both directions at once', async () => {
      b.handle(
        '/echo/1',
        async stream => {
          for (let chunk = await stream.read(); chunk !== undefined; chunk = await stream.read())
            await stream.write(chunk)
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/echo/1')
      const sent = Buffer.alloc(6 * 1024 * 1024 + 17, 'abcdefg')
      const writing = stream.write(sent).then(() => stream.closeWrite())
      expect((await readAll(stream)).equals(sent)).toBe(true)
      await writing
    })

    test('a sender whose reader does not read is held back, and goes on when it does', async () => {
      const gate = Promise.withResolvers<void>()
      const received = Promise.withResolvers<number>()
      b.handle(
        '/slow/1',
        async stream => {
          await gate.promise
          received.resolve((await readAll(stream)).byteLength)
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/slow/1')
      const piece = new Uint8Array(256 * 1024)
      const total = 64
      let sent = 0
      const writing = (async () => {
        for (; sent < total; sent++) await stream.write(piece)
        await stream.closeWrite()
      })()
      await sleep(500)
      expect(sent * piece.byteLength).toBeLessThanOrEqual(2 * maxBufferedBytes)
      gate.resolve()
      await writing
      expect(await received.promise).toBe(total * piece.byteLength)
    })

    test('writes arrive in order, whole, and where the stream gives them back their memory can be used again', async () => {
      const received = Promise.withResolvers<Buffer>()
      b.handle('/again/1', async stream => received.resolve(await readAll(stream)), limits)
      await meet()
      const stream = await a.open(b.peer, '/again/1')
      const sizes = [1, 700_000, 40, 516 * 1024, 516 * 1024 + 1, 3]
      let piece = new Uint8Array(700_000)
      for (const [turn, size] of sizes.entries()) {
        piece.fill(turn + 1)
        await stream.write(piece.subarray(0, size))
        // Two at once: the second goes behind the first.
        await Promise.all([stream.write(bytes('|')), stream.write(bytes('/'))])
        if (stream.givesBack !== true) piece = new Uint8Array(700_000)
      }
      await stream.closeWrite()
      const expected = sizes.flatMap((size, turn) => [Buffer.alloc(size, turn + 1), bytes('|/')])
      expect((await received.promise).equals(Buffer.concat(expected))).toBe(true)
    })

    test('a reset is an error at the other side, never an end', async () => {
      b.handle(
        '/reset/1',
        async stream => {
          await stream.write(bytes('part'))
          await stream.read(1)
          stream.abort(new Error('no more'))
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/reset/1')
      expect(Buffer.from((await stream.read()) as Uint8Array).toString()).toBe('part')
      await stream.write(bytes('.')).catch(() => undefined)
      await expect(stream.read()).rejects.toMatchObject({ code: 'peer-unreachable' })
    })

    test('a handler that throws ends its own stream only', async () => {
      b.handle('/throws/1', async () => Promise.reject(new Error('broken handler')), limits)
      b.handle('/fine/1', async stream => stream.write(bytes('fine')), limits)
      await meet()
      // A reset can overtake the answer to the opening.
      const broken = a.open(b.peer, '/throws/1').then(readAll)
      await expect(broken).rejects.toMatchObject({ code: 'peer-unreachable' })
      expect((await readAll(await a.open(b.peer, '/fine/1'))).toString()).toBe('fine')
    })

    test("a handler's signal fires when its stream is gone", async () => {
      const fired = Promise.withResolvers<void>()
      b.handle(
        '/watch/1',
        async (_stream, { signal }) => {
          await new Promise(resolve => signal.addEventListener('abort', resolve))
          fired.resolve()
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/watch/1')
      await stream.write(bytes('x'))
      await sleep(50)
      stream.abort(new Error('changed my mind'))
      await fired.promise
    })

    test('streams over the limit of one peer are reset; others go on', async () => {
      b.handle('/held/1', async stream => void (await readAll(stream)), {
        maxInboundPerPeer: 2,
        maxInbound: 8,
      })
      await meet()
      // A refusal shows when the stream is opened, or at its first read: that is the transport's choice.
      const outcomes = [1, 2, 3, 4].map(async () => {
        try {
          const stream = await a.open(b.peer, '/held/1')
          await stream.write(bytes('x'))
          await stream.read(1, { signal: AbortSignal.timeout(700) })
          return 'ended'
        } catch (error) {
          return (error as Error).name === 'TimeoutError' ? 'open' : 'reset'
        }
      })
      expect((await Promise.all(outcomes)).sort()).toEqual(['open', 'open', 'reset', 'reset'])
    })

    test('a read ends with its signal, and the stream can still be used', async () => {
      b.handle(
        '/late/1',
        async stream => {
          await stream.read()
          await stream.write(bytes('late'))
        },
        limits,
      )
      await meet()
      const stream = await a.open(b.peer, '/late/1')
      const reason = new Error('not waiting')
      await expect(stream.read(undefined, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
      await expect(stream.read(undefined, { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({
        name: 'TimeoutError',
      })
      await stream.write(bytes('go'))
      expect((await readAll(stream)).toString()).toBe('late')
    })

    test('a protocol that nobody handles, and a peer that is not there, are errors in time', async () => {
      await meet()
      const unknown = a.open(b.peer, '/unheard-of/1').then(async stream => {
        await stream.write(bytes('x'))
        return readAll(stream)
      })
      await expect(unknown).rejects.toMatchObject({ code: 'peer-unreachable' })
      await expect(a.dial('nonsense')).rejects.toMatchObject({ code: 'invalid-request' })
      await b.disconnect(a.peer)
      await pair.stop()
      await expect(a.open(b.peer, '/unheard-of/1')).rejects.toMatchObject({
        code: expect.stringMatching(/^(peer-unreachable|daemon-stopping)$/),
      })
    })

    describe('membership', () => {
      const restart = async (admissions: Parameters<MakePair>[0]) => {
        await pair.stop()
        await start(admissions)
      }
      const address = () => b.addresses()[0] as string
      /** What a stream of the protocol brings: all that was said, or that it was broken. */
      const outcome = async (protocol: string, options = {}) => {
        try {
          return (await readAll(await a.open(b.peer, protocol, options))).toString()
        } catch (error) {
          return (error as { code?: string }).code
        }
      }

      test('both sides know what the other may ask for', async () => {
        const list = new MemberList().add('a', ['fetch']).add('b', ['fetch', 'execute'])
        await restart({ a: list.for('a'), b: list.for('b') })
        expect(a.admissionOf(b.peer)).toBeUndefined()
        await meet()
        expect(a.admissionOf(b.peer)?.certificate).toBe('certificate-of-b')
        expect([...(b.admissionOf(a.peer)?.capabilities ?? [])]).toEqual(['fetch'])
        await a.disconnect(b.peer)
        await until(() => b.admissionOf(a.peer) === undefined)
      })

      test('a protocol opens for whoever has its capability, and for nobody else', async () => {
        const list = new MemberList().add('a', ['fetch']).add('b')
        await restart({ a: list.for('a'), b: list.for('b') })
        const served: string[] = []
        for (const capability of ['fetch', 'execute'] as const)
          b.handle(
            `/${capability}/1`,
            async stream => {
              served.push(capability)
              await stream.write(bytes(capability))
            },
            { ...limits, capability },
          )
        await meet()
        expect(await outcome('/fetch/1')).toBe('fetch')
        expect(await outcome('/execute/1')).toBe('peer-unreachable')
        expect(served).toEqual(['fetch'])
      })

      test.each([
        ['the dialled host', ['b'], 'peer'],
        ['the dialler', ['a'], 'this-node'],
      ] as const)('%s refuses a stranger: both hear why, neither is connected', async (_who, known, by) => {
        const lists = { full: new MemberList().add('a').add('b'), short: new MemberList().add(known[0]) }
        const [ofA, ofB] = by === 'peer' ? [lists.full, lists.short] : [lists.short, lists.full]
        await restart({ a: ofA.for('a'), b: ofB.for('b') })
        const changes: string[] = []
        for (const host of [a, b]) host.onPeer((_peer, change) => changes.push(change))
        let served = 0
        b.handle('/x/1', async () => void served++, limits)
        const refused = { code: 'not-a-member', data: { peer: b.peer, by, reason: 'certificate-revoked' } }
        await expect(a.dial(address())).rejects.toMatchObject(refused)
        await expect(a.dial(address())).rejects.toThrow(/The certificate of [ab] was revoked/)
        await expect(a.open(b.peer, '/x/1')).rejects.toMatchObject({
          code: expect.stringMatching(/^(not-a-member|peer-unreachable)$/),
        })
        await until(() => a.connections().length === 0 && b.connections().length === 0)
        expect([a.isConnected(b.peer), b.isConnected(a.peer), served, changes]).toEqual([false, false, 0, []])
      })

      test('a stranger who joins gets open protocols, and no other', async () => {
        const list = new MemberList().add('b')
        await restart({ a: list.for(() => undefined), b: list.for('b') })
        b.handle('/join/1', async stream => stream.write(bytes('welcome')), { ...limits, open: true })
        b.handle('/x/1', async stream => stream.write(bytes('secret')), limits)
        await expect(a.dial(address())).rejects.toMatchObject({ code: 'not-a-member' })
        expect(await a.dial(address(), { joining: true })).toBe(b.peer)
        expect(await outcome('/join/1', { joining: true })).toBe('welcome')
        expect(await outcome('/x/1')).toBe('not-a-member')
        expect([a.connections(), b.connections()]).toEqual([[], []])
        expect([a.isConnected(b.peer), b.isConnected(a.peer)]).toEqual([false, false])
      })
    })

    test('a connection that goes away breaks its streams', async () => {
      b.handle('/long/1', async stream => void (await readAll(stream)), limits)
      await meet()
      const stream = await a.open(b.peer, '/long/1')
      await stream.write(bytes('x'))
      const reading = stream.read()
      await b.disconnect(a.peer)
      await expect(reading).rejects.toMatchObject({ code: 'peer-unreachable' })
      await expect(stream.write(bytes('y'))).rejects.toMatchObject({ code: 'peer-unreachable' })
    })
  })
}
