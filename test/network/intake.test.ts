// What lands in an intake comes out of it once, in order, whatever the pieces and whoever reads how.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Intake } from '../../src/network/data/intake.ts'

/** As TLS hands over bytes: in pieces of at most what there is room for. */
function land(intake: Intake, bytes: Uint8Array): boolean {
  let more = true
  for (let at = 0; at < bytes.byteLength; ) {
    const room = intake.room()
    const piece = bytes.subarray(at, at + room.byteLength)
    room.set(piece)
    more = intake.came(piece.byteLength)
    at += piece.byteLength
  }
  return more
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('land' as const), bytes: fc.integer({ min: 1, max: 40_000 }) }),
  fc.record({ kind: fc.constant('push' as const), bytes: fc.integer({ min: 1, max: 40_000 }) }),
  fc.record({ kind: fc.constant('fill' as const), bytes: fc.integer({ min: 1, max: 90_000 }) }),
  fc.record({ kind: fc.constant('read' as const), bytes: fc.integer({ min: 1, max: 90_000 }) }),
)

describe('an intake', () => {
  it('gives every byte once and in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async steps => {
        const intake = new Intake(() => undefined)
        let sent = 0
        const next = (count: number) =>
          Uint8Array.from({ length: count }, (_, i) => ((sent + i) * 31 + ((sent + i) >> 8)) & 0xff)
        const got: Uint8Array[] = []
        let counted = 0
        // One reader, as on a stream: each waits for the one before.
        let reader: Promise<unknown> = Promise.resolve()
        for (const { kind, bytes } of steps) {
          if (kind === 'land' || kind === 'push') {
            const data = next(bytes)
            sent += bytes
            if (kind === 'land') land(intake, data)
            else intake.push(data)
            await Promise.resolve()
          } else if (kind === 'fill') {
            reader = reader.then(async () => {
              const into = new Uint8Array(bytes)
              if (await intake.fill(into, part => (counted += part))) got.push(into)
            })
          } else
            reader = reader.then(async () => {
              const chunk = await intake.take(bytes, undefined)
              if (chunk !== undefined) got.push(chunk.slice())
            })
        }
        // Enough for whoever still waits.
        const rest = next(90_000 * steps.length)
        sent += rest.byteLength
        for (let at = 0; at < rest.byteLength; at += 16_384) {
          land(intake, rest.subarray(at, at + 16_384))
          await Promise.resolve()
        }
        await reader
        expect(counted).toBeLessThanOrEqual(sent)
        const all = Buffer.concat(got)
        sent = 0
        expect(Buffer.compare(all, next(all.byteLength))).toBe(0)
      }),
      { numRuns: 25 },
    )
  })

  it('lands in the memory of the reader that waits, and leaves it alone afterwards', async () => {
    const intake = new Intake(() => undefined)
    const into = new Uint8Array(10_000)
    intake.room()
    const filled = intake.fill(into, () => undefined)
    // What there was room for before is copied; the next piece lands where it is wanted.
    intake.room().fill(1, 0, 100)
    intake.came(100)
    const room = intake.room()
    expect([room.buffer === into.buffer, room.byteLength]).toEqual([true, 9900])
    room.fill(2)
    intake.came(9900)
    expect(await filled).toBe(true)
    expect([into[0], into[99], into[100], into[9999]]).toEqual([1, 1, 2, 2])
    expect(intake.room().buffer === into.buffer).toBe(false)
  })

  it('holds back at a mebibyte that nobody reads, and says when to go on', async () => {
    let resumed = 0
    const intake = new Intake(() => {
      resumed += 1
    })
    let landed = 0
    while (land(intake, new Uint8Array(16_384))) landed += 16_384
    expect(landed).toBe(1024 * 1024 - 16_384)
    expect(resumed).toBe(0)
    await intake.fill(new Uint8Array(800_000), () => undefined)
    expect(resumed).toBe(1)
    expect(land(intake, new Uint8Array(10))).toBe(true)
  })

  it('an end is told to readers once all was read, a failure at once', async () => {
    const ended = new Intake(() => undefined)
    land(ended, new Uint8Array(5000))
    ended.end()
    expect((await ended.take(4000, undefined))?.byteLength).toBe(4000)
    expect(await ended.fill(new Uint8Array(2000), () => undefined)).toBe(false)
    expect(await ended.take(1, undefined)).toBeUndefined()
    const failed = new Intake(() => undefined)
    const waiting = failed.fill(new Uint8Array(10), () => undefined)
    failed.fail(new Error('broken'))
    await expect(waiting).rejects.toThrow('broken')
    await expect(failed.fill(new Uint8Array(10), () => undefined)).rejects.toThrow('broken')
    await expect(failed.take(1, undefined)).rejects.toThrow('broken')
  })
})
