// The Range header of HTTP (RFC 9110, section 14), one range of bytes.
import { CatalogError } from '../base/errors.ts'

export interface ByteRange {
  readonly offset: number
  readonly length: number
}

/**
 * What `header` asks for of `size` bytes; undefined without a header: all of it.
 * Where RFC 9110 lets a server ignore what it cannot serve (several ranges, other units), this one refuses:
 * a caller that asked for a part must not get a gigabyte.
 * @throws CatalogError `invalid-range`
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  if (header === undefined) return undefined
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim())
  const [, first = '', last = ''] = match ?? []
  if (match === null || (first === '' && last === ''))
    throw refuse(header, size, 'write one range, for example bytes=0-499, bytes=500- or bytes=-500')
  const offset = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (first !== '' && last !== '' && Number(last) < Number(first))
    throw refuse(header, size, 'its end is before its start')
  if (offset > end) throw refuse(header, size, 'no byte of the file is in it')
  return { offset, length: end - offset + 1 }
}

const refuse = (header: string, size: number, why: string): CatalogError =>
  new CatalogError(
    'invalid-range',
    `Cannot read the range ${JSON.stringify(header.slice(0, 100))} of ${size} bytes: ${why}.`,
    { size },
  )
