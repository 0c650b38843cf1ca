// PEM (RFC 7468): labelled base64 blocks in a text. Strict in what it takes: whatever is no block is a comment before
// the first or between two, as OpenSSL writes them; a block that is broken is an error, not a comment.
// A chain of ours in PEM is one block CATALOG CERTIFICATE for each certificate, leaf first.
import { CatalogError } from '../base/errors.ts'
import { type Certificate, decodeChain } from './certificate.ts'

export interface PemBlock {
  readonly label: string
  readonly bytes: Uint8Array
}

export const pemLimits = {
  /** A certificate and a key have 1 KiB, with a chain of ours 65. */
  maxCharacters: 96 * 1024,
  maxBlocks: 16,
} as const

export const chainLabel = 'CATALOG CERTIFICATE'

export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes)
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`
}

/** `what` begins the sentence: "The file node.pem". @throws CatalogError `certificate-malformed`, `too-large` */
export function decodePem(text: string, what: string): PemBlock[] {
  if (text.length > pemLimits.maxCharacters)
    throw new CatalogError(
      'too-large',
      `${what} has more than ${pemLimits.maxCharacters} characters and was not read.`,
    )
  const broken = (why: string) => new CatalogError('certificate-malformed', `${what} is not PEM: ${why}.`)
  const blocks: PemBlock[] = []
  let open: { readonly label: string; readonly lines: string[] } | undefined
  for (const line of text.split(/\r?\n/).map(each => each.trimEnd())) {
    const [, edge, label = ''] = /^-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----$/.exec(line) ?? []
    if (edge === 'BEGIN') {
      if (open !== undefined) throw broken(`${label} begins inside ${open.label}`)
      if (blocks.length === pemLimits.maxBlocks)
        throw broken(`it has more than ${pemLimits.maxBlocks} blocks`)
      open = { label, lines: [] }
    } else if (edge === 'END') {
      if (open?.label !== label) throw broken(`${label} ends where it has not begun`)
      const bytes = decodeBase64(open.lines.join(''))
      if (bytes === undefined) throw broken(`its ${label} is not base64`)
      blocks.push({ label, bytes })
      open = undefined
    } else if (line.startsWith('-----')) throw broken('a line with dashes neither begins nor ends a block')
    else open?.lines.push(line)
  }
  if (open !== undefined) throw broken(`its ${open.label} has no end`)
  return blocks
}

function decodeBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64')
  // Buffer passes over what is no base64.
  return text !== '' && bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined
}

/** A chain as it travels between people: its certificates, leaf first. */
export const encodeChainPem = (chain: readonly { readonly bytes: Uint8Array }[]): string =>
  chain.map(({ bytes }) => encodePem(chainLabel, bytes)).join('')

/** The form alone. @throws CatalogError `certificate-malformed`, `too-large` */
export function decodeChainPem(text: string, what: string): Certificate[] {
  const blocks = decodePem(text, what)
  const other = blocks.find(({ label }) => label !== chainLabel)
  if (other !== undefined)
    throw new CatalogError(
      'certificate-malformed',
      `${what} has a ${other.label}; a chain consists of ${chainLabel} blocks alone.`,
    )
  return decodeChain(blocks.map(({ bytes }) => bytes))
}
