// Bytes per second as people write them: 10MiB, 1.5 MB/s, 100Mbit. It knows no setting by name.
import { z } from 'zod'

const bytesOf: ReadonlyMap<string, number> = new Map(
  Object.entries({
    '': 1,
    b: 1,
    kb: 1000,
    mb: 1000 ** 2,
    gb: 1000 ** 3,
    kib: 1024,
    mib: 1024 ** 2,
    gib: 1024 ** 3,
    kbit: 1000 / 8,
    mbit: 1000 ** 2 / 8,
    gbit: 1000 ** 3 / 8,
  }),
)

/** Below this, a node's streams are so slow that others take it for one that hangs; `up: 10` was meant with a unit. */
const minBytesPerSecond = 64 * 1024
const maxBytesPerSecond = 1e12

const expected =
  'bytes per second: a number, or a text with a unit such as 10MiB, 500kB or 100Mbit; 0: unlimited'

/** The bytes per second that a text means, or undefined: a number and a unit, with or without /s, in any case. */
export function parseByteRate(text: string): number | undefined {
  const [, number, unit = ''] =
    /^(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)$/i.exec(text.trim().replace(/\/s$/i, '')) ?? []
  // Mb is read as bits by some and as bytes by others.
  const bytes = /^[KMG]b$/.test(unit) ? undefined : bytesOf.get(unit.toLowerCase())
  return number === undefined || bytes === undefined ? undefined : Math.round(Number(number) * bytes)
}

export const byteRate = z
  .union([z.number(), z.string().max(64)], expected)
  .transform((value, context) => {
    const rate = typeof value === 'number' ? value : parseByteRate(value)
    if (rate !== undefined && Number.isSafeInteger(rate) && rate >= 0) return rate
    context.addIssue({ code: 'custom', message: expected })
    return z.NEVER
  })
  .refine(
    rate => rate === 0 || (rate >= minBytesPerSecond && rate <= maxBytesPerSecond),
    '0 for unlimited, or at least 64KiB per second (a number alone is bytes; 10MiB and 100Mbit have units)',
  )
