// The membership protocol's bytes, by golden vectors, and what a hostile other side can say.
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CatalogError } from '../../src/base/errors.ts'
import { encodeFrame } from '../../src/network/frames.ts'
import type { ByteStream } from '../../src/network/host.ts'
import { answer, present } from '../../src/network/libp2p/gate/member-protocol.ts'
import { MemoryNetwork } from '../../src/network/memory-host.ts'

const vectors: { what: string; message: string }[] = JSON.parse(
  readFileSync(new URL('../vectors/member-v2.json', import.meta.url), 'utf8'),
)
const [opening, answering, verdict, refusing] = vectors.map(({ message }) => Buffer.from(message, 'hex')) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer,
]

const network = new MemoryNetwork()
let count = 0

/** Two ends of a stream: ours, and one on which anything can be said. */
async function ends(): Promise<{ ours: ByteStream; theirs: ByteStream }> {
  const [a, b] = [network.createHost(`a${++count}`), network.createHost(`b${count}`)]
  const arrived = Promise.withResolvers<ByteStream>()
  const done = new Promise<void>(() => undefined)
  b.handle(
    '/raw/1',
    stream => {
      arrived.resolve(stream)
      return done
    },
    { maxInbound: 1, maxInboundPerPeer: 1 },
  )
  return { ours: await a.open(b.peer, '/raw/1'), theirs: await arrived.promise }
}

async function exactly(stream: ByteStream, length: number): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for (let got = 0; got < length; ) {
    const piece = await stream.read(length - got)
    if (piece === undefined) break
    got += piece.byteLength
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

const expired = new CatalogError('certificate-expired', 'The certificate bexample expired on 2026-11-01.')
function side(own: string, refuses = false) {
  const proved: string[] = []
  return {
    proved,
    credential: () => Buffer.from(own),
    admit: async (credential: Uint8Array) => {
      proved.push(Buffer.from(credential).toString())
      if (refuses) throw expired
      return 'admitted' as const
    },
    refused: () => undefined,
  }
}
const inTime = () => ({ signal: AbortSignal.timeout(5000) })

describe('the membership protocol', () => {
  test('an exchange, byte for byte, seen by the answerer', async () => {
    const { ours, theirs } = await ends()
    const opener = side('credential of the opener')
    const exchange = present(ours, opener, inTime())
    expect((await exactly(theirs, opening.byteLength)).equals(opening)).toBe(true)
    await theirs.write(answering)
    expect((await exactly(theirs, verdict.byteLength)).equals(verdict)).toBe(true)
    expect(await exchange).toBe('admitted')
    expect(await theirs.read()).toBeUndefined()
    expect(opener.proved).toEqual(['credential of the answerer'])
  })

  test('an exchange, byte for byte, seen by the opener', async () => {
    const { ours, theirs } = await ends()
    const answerer = side('credential of the answerer')
    const exchange = answer(ours, answerer, inTime())
    await theirs.write(opening)
    expect((await exactly(theirs, answering.byteLength)).equals(answering)).toBe(true)
    await theirs.write(verdict)
    expect(await exchange).toBe('admitted')
    expect(answerer.proved).toEqual(['credential of the opener'])
  })

  test.each(['opener', 'answerer'])('the %s refuses, byte for byte', async who => {
    const { ours, theirs } = await ends()
    const refuser = side('x', true)
    const exchange = who === 'opener' ? present(ours, refuser, inTime()) : answer(ours, refuser, inTime())
    const ended = exchange.catch(error => error)
    if (who === 'opener') await exactly(theirs, encodeFrame({ credential: Buffer.from('x') }).byteLength)
    await theirs.write(who === 'opener' ? answering : opening)
    expect((await exactly(theirs, refusing.byteLength)).equals(refusing)).toBe(true)
    await theirs.closeWrite()
    expect(await ended).toMatchObject({
      code: 'not-a-member',
      data: { by: 'this-node', reason: 'certificate-expired' },
    })
  })

  test.each(['opener', 'answerer'])('the %s hears a refusal', async who => {
    const { ours, theirs } = await ends()
    const one = side('x')
    const exchange = who === 'opener' ? present(ours, one, inTime()) : answer(ours, one, inTime())
    await theirs.write(refusing)
    await expect(exchange).rejects.toMatchObject({
      code: 'not-a-member',
      data: {
        by: 'peer',
        reason: 'certificate-expired',
        message: 'The certificate bexample expired on 2026-11-01.',
      },
    })
    expect(one.proved).toEqual([])
  })

  test('what goes wrong inside is not told', async () => {
    const { ours, theirs } = await ends()
    const failing = { ...side('x'), admit: () => Promise.reject(new Error('/home/somebody/keys is gone')) }
    const ended = answer(ours, failing, inTime()).catch(error => error)
    await theirs.write(opening)
    const told = (await exactly(theirs, 1000).catch(() => Buffer.alloc(0))).toString()
    await theirs.closeWrite()
    expect(told).toContain('could not be checked')
    expect(told).not.toContain('somebody')
    expect(await ended).toMatchObject({ code: 'not-a-member' })
  })

  test("a peer's sentence has no control characters in it", async () => {
    const { ours, theirs } = await ends()
    const exchange = present(ours, side('x'), inTime()).catch(error => error)
    await theirs.write(encodeFrame({ refused: 'not-a-member', message: 'go\u001b[31m\naway\u202e' }))
    expect((await exchange).data.message).toBe('go [31m away ')
  })

  test('1,000 mutants of the messages: none is taken for a verdict or a credential that was not sent', async () => {
    const whole = Buffer.concat([opening, verdict])
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.byteLength - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (at, flip, cut) => {
          const bytes = Buffer.from(cut ? whole.subarray(0, at) : whole)
          if (!cut) bytes[at] = (bytes[at] as number) ^ flip
          const { ours, theirs } = await ends()
          const one = side('x')
          const ended = answer(ours, one, inTime()).then(
            () => 'admitted',
            (error: CatalogError) => error.code,
          )
          await theirs.write(bytes)
          await theirs.closeWrite()
          const outcome = await ended
          // A change within the credential is another credential, which `admit` would judge.
          const inside =
            !cut && at >= opening.byteLength - 'credential of the opener'.length && at < opening.byteLength
          if (inside) expect(one.proved).not.toContain('credential of the opener')
          else expect(outcome).toMatch(/^(bad-peer-message|not-a-member)$/)
        },
      ),
      { numRuns: 1000 },
    )
  })
})
