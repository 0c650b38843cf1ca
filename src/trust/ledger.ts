// Every certificate that was issued here, durable before anybody is given it: what is not in the ledger cannot be
// listed, renewed or revoked by its holder's name. What an entry is worth now (expired, revoked) others say.
//
//   entry  issued/<fingerprint>           canonical CBOR { v: 1, certificate: bytes, issuedAt, holder?: bytes }
//   index  holder/<hex of key>/<fingerprint>   empty
import { encodeCbor } from '../base/cbor.ts'
import type { KeyValue } from '../base/key-value.ts'
import { type Certificate, certificateLimits, decodeCertificate } from './certificate.ts'
import { decodeStrictly } from './document.ts'
import { ed25519 } from './ed25519-scheme.ts'
import { Fields } from './fields.ts'

export interface LedgerEntry {
  readonly certificate: Certificate
  /** Milliseconds since 1970 (UTC). */
  readonly issuedAt: number
  /** Ed25519 key of the node that got it; absent where it was issued for keys alone. */
  readonly holder?: Uint8Array
}

export class Ledger {
  readonly #records: KeyValue

  constructor({ records }: { readonly records: KeyValue }) {
    this.#records = records
  }

  /** Durable when it resolves. */
  async add({ certificate, issuedAt, holder }: LedgerEntry): Promise<void> {
    const { bytes, fingerprint } = certificate
    const value = encodeCbor({
      v: 1,
      certificate: bytes,
      issuedAt,
      ...(holder === undefined ? {} : { holder }),
    })
    await this.#records.batch([
      { type: 'put', key: `issued/${fingerprint}`, value },
      ...(holder === undefined
        ? []
        : [{ type: 'put', key: holderKey(holder) + fingerprint, value: new Uint8Array(0) } as const]),
    ])
  }

  async get(fingerprint: string): Promise<LedgerEntry | undefined> {
    const value = await this.#records.get(`issued/${fingerprint}`)
    return value === undefined ? undefined : decodeEntry(value)
  }

  /** What a node got, the newest first. */
  async ofHolder(holder: Uint8Array): Promise<LedgerEntry[]> {
    const entries: LedgerEntry[] = []
    const prefix = holderKey(holder)
    for await (const key of this.#records.keys({ prefix })) {
      const entry = await this.get(key.slice(prefix.length))
      if (entry !== undefined) entries.push(entry)
    }
    return entries.sort((a, b) => b.issuedAt - a.issuedAt)
  }

  async *entries(): AsyncIterable<LedgerEntry> {
    for await (const [, value] of this.#records.entries({ prefix: 'issued/' })) yield decodeEntry(value)
  }
}

const holderKey = (holder: Uint8Array): string => `holder/${Buffer.from(holder).toString('hex')}/`

function decodeEntry(value: Uint8Array): LedgerEntry {
  const what = 'An entry of the ledger'
  const raw = decodeStrictly(value, certificateLimits.maxBytes + 1024, what)
  const fields = new Fields(raw, ['v', 'certificate', 'issuedAt', 'holder'], what)
  fields.version(1)
  return {
    certificate: decodeCertificate(fields.bytes('certificate')),
    issuedAt: fields.natural('issuedAt'),
    ...(fields.has('holder') ? { holder: fields.bytes('holder', ed25519.publicKeyBytes) } : {}),
  }
}
