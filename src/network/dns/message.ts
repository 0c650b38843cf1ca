// DNS messages as far as TXT lookups need them: one query out, its answer in. Sending them is exchange.ts's affair.
//
// RFC 1035 (messages), 2181 (TTL), 2308 (how long an absence holds), 6891 (the OPT record that allows larger UDP
// answers). Limits: 16 KiB a message, 64 TXT records and 4 KiB of their text; what goes beyond is left out and told.
// Names are followed through CNAMEs within the answer, at most 8. Non-goals: any other type, DNSSEC.

export const maxMessageBytes = 16 * 1024
const maxTexts = 64
const maxTextBytes = 4096
const maxAliases = 8
/** What fits into one packet on every usual link (DNS flag day 2020). */
const udpPayloadBytes = 1232

const headerBytes = 12
const types = { cname: 5, soa: 6, txt: 16, opt: 41 }
const internet = 1

export const responseCodes = { ok: 0, serverFailure: 2, noSuchName: 3 }

export interface TxtAnswer {
  readonly responseCode: number
  /** It did not fit into a packet: ask again over TCP. */
  readonly truncated: boolean
  /** The records' texts, each byte a character; none where the name has none. */
  readonly texts: readonly string[]
  /** For how long it holds: the records, or their absence. Undefined where the server does not say. */
  readonly ttlSeconds: number | undefined
  /** There were more records than are read. */
  readonly cut: boolean
}

export function encodeQuery(id: number, name: string): Uint8Array {
  const labels = name.split('.').map(each => Buffer.from(each, 'latin1'))
  const question = labels.flatMap(each => [Buffer.from([each.length]), each])
  const header = Buffer.alloc(headerBytes)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(0x0100, 2) // recursion desired
  header.writeUInt16BE(1, 4) // one question
  header.writeUInt16BE(1, 10) // one additional record: OPT
  const end = Buffer.from([0, 0, types.txt, 0, internet])
  const opt = Buffer.from([0, 0, types.opt, udpPayloadBytes >> 8, udpPayloadBytes & 255, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([header, ...question, end, opt])
}

/**
 * The answer to the query of this id and name; undefined for a message that is none to it, which anybody may send.
 * @throws Error where the answer is malformed
 */
export function decodeAnswer(bytes: Uint8Array, id: number, name: string): TxtAnswer | undefined {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (message.length < headerBytes || message.readUInt16BE(0) !== id) return undefined
  const flags = message.readUInt16BE(2)
  const isResponse = (flags & 0x8000) !== 0
  if (!isResponse || message.readUInt16BE(4) !== 1) return undefined
  const reader = new Reader(message, headerBytes)
  if (reader.name() !== name || reader.u16() !== types.txt || reader.u16() !== internet) return undefined

  const truncated = (flags & 0x0200) !== 0
  const responseCode = flags & 0x000f
  // What is asked for again, or refused, is not read.
  if (truncated || (responseCode !== responseCodes.ok && responseCode !== responseCodes.noSuchName))
    return { responseCode, truncated, texts: [], ttlSeconds: undefined, cut: false }
  const answers = reader.records(message.readUInt16BE(6))
  const authority = reader.records(message.readUInt16BE(8))
  const found = textsOf(name, answers)
  const ttlSeconds = found.texts.length > 0 ? found.ttlSeconds : absenceSeconds(authority)
  return { responseCode, truncated, ...found, ttlSeconds }
}

function textsOf(
  name: string,
  records: readonly ResourceRecord[],
): { texts: string[]; ttlSeconds: number | undefined; cut: boolean } {
  const ttls: number[] = []
  let at = name
  for (let step = 0; step < maxAliases; step++) {
    const alias = records.find(({ owner, type }) => owner === at && type === types.cname)
    if (alias === undefined) break
    ttls.push(alias.ttlSeconds)
    at = alias.data.name()
  }
  const own = records.filter(({ owner, type }) => owner === at && type === types.txt)
  const texts: string[] = []
  let length = 0
  for (const { data, ttlSeconds } of own) {
    const text = data.characterStrings()
    length += text.length
    if (texts.length === maxTexts || length > maxTextBytes)
      return { texts, ttlSeconds: least(ttls), cut: true }
    texts.push(text)
    ttls.push(ttlSeconds)
  }
  return { texts, ttlSeconds: least(ttls), cut: false }
}

const least = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : Math.min(...values)

/** RFC 2308, 5: the lesser of the zone's own TTL and its MINIMUM, the last four bytes of the SOA record. */
function absenceSeconds(authority: readonly ResourceRecord[]): number | undefined {
  const soa = authority.find(({ type }) => type === types.soa)
  return soa === undefined ? undefined : Math.min(soa.ttlSeconds, soa.data.lastU32())
}

interface ResourceRecord {
  readonly owner: string
  readonly type: number
  readonly ttlSeconds: number
  readonly data: Reader
}

/** Reads forwards, within its bounds; every read beyond them throws. */
class Reader {
  readonly #message: Buffer
  readonly #end: number
  #at: number

  constructor(message: Buffer, at: number, end = message.length) {
    this.#message = message
    this.#at = at
    this.#end = end
  }

  u16(): number {
    return this.#message.readUInt16BE(this.#take(2))
  }

  u32(): number {
    return this.#message.readUInt32BE(this.#take(4))
  }

  lastU32(): number {
    this.#at = Math.max(this.#at, this.#end - 4)
    return this.u32()
  }

  /** In lower case; a dot within a label is written `\.`, so that no two names look the same. */
  name(): string {
    const labels: string[] = []
    let at = this.#at
    let start = at
    let jumped = false
    for (let length = 0; ; ) {
      const byte = this.#message[at]
      if (byte === undefined) throw malformed('a name leads out of the message')
      if (byte >= 0xc0) {
        if (!jumped) this.#at = at + 2
        const target = ((byte & 0x3f) << 8) | (this.#message[at + 1] ?? 0xff)
        // Only backwards: so it ends.
        if (target >= start) throw malformed('a name does not point backwards')
        start = target
        at = target
        jumped = true
        continue
      }
      if (byte > 63) throw malformed('a name has a label of an unknown kind')
      length += byte + 1
      if (length > 255) throw malformed('a name is too long')
      if (byte === 0) break
      if (at + 1 + byte > this.#message.length) throw malformed('a name leads out of the message')
      labels.push(this.#message.toString('latin1', at + 1, at + 1 + byte).replaceAll('.', '\\.'))
      at += byte + 1
    }
    if (!jumped) this.#at = at + 1
    if (this.#at > this.#end) throw malformed('a name leads out of its record')
    return labels.join('.').toLowerCase()
  }

  /** The strings of a TXT record are one text (the multiaddr specification, and RFC 7208, 3.3). */
  characterStrings(): string {
    let text = ''
    while (this.#at < this.#end) {
      const length = this.#message[this.#take(1)] as number
      const at = this.#take(length)
      text += this.#message.toString('latin1', at, at + length)
    }
    return text
  }

  records(count: number): ResourceRecord[] {
    const records: ResourceRecord[] = []
    // A record takes 11 bytes at least: the message's size bounds the work, whatever it counts.
    for (let number = 0; number < count; number++) {
      const owner = this.name()
      const type = this.u16()
      const kind = this.u16()
      const ttl = this.u32()
      const length = this.u16()
      const at = this.#take(length)
      // RFC 2181, 8: a TTL with the highest bit set counts as 0.
      const ttlSeconds = ttl > 0x7fff_ffff ? 0 : ttl
      if (kind === internet)
        records.push({ owner, type, ttlSeconds, data: new Reader(this.#message, at, at + length) })
    }
    return records
  }

  #take(length: number): number {
    const at = this.#at
    if (at + length > this.#end) throw malformed('it ends too early')
    this.#at = at + length
    return at
  }
}

const malformed = (why: string): Error => new Error(`the answer is malformed: ${why}`)
