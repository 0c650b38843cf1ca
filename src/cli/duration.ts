// Times as people write them on the command line: 30m, 12h, 90d.
import { CatalogError } from '../base/errors.ts'

const unitSeconds: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 }

/** Seconds; `option` is what the message names. @throws CatalogError `invalid-request` */
export function secondsOf(text: string, option: string): number {
  const [, count, unit = ''] = /^([1-9]\d{0,5})([mhd])$/.exec(text) ?? []
  if (count === undefined)
    throw new CatalogError(
      'invalid-request',
      `${option} ${text} is no time. Write minutes, hours or days: 30m, 12h or 90d.`,
    )
  return Number(count) * (unitSeconds[unit] ?? 0)
}
