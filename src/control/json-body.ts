// Reading a request's JSON: bounded in depth before it is parsed (its size is bounded before it is read).
import { CatalogError } from '../base/errors.ts'

const maxDepth = 32

/** @throws CatalogError `invalid-request` */
export function parseJsonBody(text: string): unknown {
  if (text.trim() === '') return undefined
  if (depthExceeds(text, maxDepth))
    throw new CatalogError('invalid-request', `The request is nested deeper than ${maxDepth} levels.`)
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new CatalogError('invalid-request', `The request is not JSON: ${(error as Error).message}.`)
  }
}

/** One pass without recursion; what is not JSON is left to the parser. */
function depthExceeds(text: string, most: number): boolean {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inString) {
      if (code === backslash) i++
      else if (code === quote) inString = false
    } else if (code === quote) inString = true
    else if (code === openBrace || code === openBracket) {
      if (++depth > most) return true
    } else if (code === closeBrace || code === closeBracket) depth--
  }
  return false
}

const [quote, backslash, openBrace, closeBrace, openBracket, closeBracket] = [
  0x22, 0x5c, 0x7b, 0x7d, 0x5b, 0x5d,
]
