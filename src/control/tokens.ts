// Access tokens: what admits another user of this machine to the shared control socket, with which capabilities, for
// which names, until when. A token's text is shown once; what is kept is its hash. It decides nothing about routes.
//
//   catalog-token-<43 characters: 32 random bytes, base64url>
//
//   key                       value (CBOR)
//   token/<id>                { v: 1, digest, label, can, names, createdAt, expiresAt }    id: 16 hex digits of digest
//   run/<id>/<execution>      when the execution was started with the token, ms since 1970
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { decodeCbor, encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import { blake3 } from '../base/hash.ts'
import type { KeyValue } from '../base/key-value.ts'
import type { Caller, Grantable } from './access.ts'
import type { TokenRequest, TokenView } from './api.ts'

export interface AccessTokensDeps {
  readonly records: KeyValue
  readonly now: () => number
}

const textPattern = /^catalog-token-([A-Za-z0-9_-]{43})$/
const maxTokens = 1000
/** Executions that a token still finds as its own; the oldest are forgotten first. */
const maxRuns = 1000
const maxRecordBytes = 64 * 1024
export const defaultTokenSeconds = 30 * 24 * 3600

interface TokenRecord {
  readonly digest: Uint8Array
  readonly label: string
  readonly can: readonly Grantable[]
  readonly names: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
}

export class AccessTokens {
  readonly #deps: AccessTokensDeps
  readonly #tokens = new Map<string, TokenRecord>()
  readonly #runs = new Map<string, Set<string>>()
  readonly #revoked = new Set<(id: string) => void>()

  constructor(deps: AccessTokensDeps) {
    this.#deps = deps
  }

  async start(): Promise<void> {
    const { records } = this.#deps
    for await (const [key, value] of records.entries({ prefix: 'token/' }))
      this.#tokens.set(key.slice('token/'.length), decodeToken(value))
    const runs: (readonly [token: string, execution: string, at: number])[] = []
    for await (const [key, value] of records.entries({ prefix: 'run/' })) {
      const [, token = '', execution = ''] = key.split('/')
      runs.push([token, execution, Number(decodeCbor(value, 16, 'A run of a token'))])
    }
    for (const [token, execution] of runs.sort((a, b) => a[2] - b[2])) this.#runsOf(token).add(execution)
  }

  /** The text is in this answer alone. @throws CatalogError `quota-exceeded` */
  async create(request: TokenRequest): Promise<TokenView & { readonly token: string }> {
    const { records, now } = this.#deps
    for (const { id, expired } of this.list()) if (expired) await this.revoke(id)
    if (this.#tokens.size >= maxTokens)
      throw new CatalogError(
        'quota-exceeded',
        `There are ${maxTokens} tokens, the most that there can be. Revoke one with \`catalog trust token revoke ID\`.`,
      )
    const secret = randomBytes(32).toString('base64url')
    const digest = digestOf(secret)
    const id = idOf(digest)
    const { label, can, names = ['*'], expiresSeconds = defaultTokenSeconds } = request
    const createdAt = now()
    const record = { digest, label, can, names, createdAt, expiresAt: createdAt + expiresSeconds * 1000 }
    await records.put(`token/${id}`, encodeCbor({ v: 1, ...record }))
    this.#tokens.set(id, record)
    return { ...this.#viewOf(id, record), token: `catalog-token-${secret}` }
  }

  /** The oldest first. */
  list(): TokenView[] {
    return [...this.#tokens]
      .map(([id, record]) => this.#viewOf(id, record))
      .sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
  }

  /** What goes on with the token ends. @throws CatalogError `not-found` */
  async revoke(id: string): Promise<TokenView> {
    const record = this.#tokens.get(id)
    if (record === undefined)
      throw new CatalogError(
        'not-found',
        `There is no token ${id}. \`catalog trust token list\` shows those that there are.`,
        { id },
      )
    const runs = [...(this.#runs.get(id) ?? [])]
    this.#tokens.delete(id)
    // Before its executions are forgotten: those that somebody waits for are cancelled with the requests.
    for (const listener of this.#revoked) listener(id)
    this.#runs.delete(id)
    const keys = [`token/${id}`, ...runs.map(run => `run/${id}/${run}`)]
    await this.#deps.records.batch(keys.map(key => ({ type: 'delete' as const, key })))
    return this.#viewOf(id, record)
  }

  onRevoked(listener: (id: string) => void): void {
    this.#revoked.add(listener)
  }

  /** Whose text it is; undefined for what is no token, and for one that was revoked or has expired. */
  callerOf(text: string): (Caller & { readonly token: string }) | undefined {
    const secret = textPattern.exec(text)?.[1]
    if (secret === undefined) return undefined
    const digest = digestOf(secret)
    const id = idOf(digest)
    const record = this.#tokens.get(id)
    // The map is asked by a part of a hash, which tells nothing of the secret; the rest is compared in constant time.
    if (record === undefined || !timingSafeEqual(record.digest, digest)) return undefined
    if (record.expiresAt <= this.#deps.now()) return undefined
    return { token: id, can: record.can, names: record.names }
  }

  /** The execution was started with the token: who has it may follow, cancel and read it. */
  async addRun(token: string, execution: string): Promise<void> {
    const runs = this.#runsOf(token)
    const [oldest] = runs
    if (runs.size >= maxRuns && oldest !== undefined) {
      runs.delete(oldest)
      await this.#deps.records.delete(`run/${token}/${oldest}`)
    }
    runs.add(execution)
    await this.#deps.records.put(`run/${token}/${execution}`, encodeCbor(this.#deps.now()))
  }

  hasRun(token: string, execution: string): boolean {
    return this.#runs.get(token)?.has(execution) === true
  }

  #runsOf(token: string): Set<string> {
    const runs = this.#runs.get(token) ?? new Set()
    this.#runs.set(token, runs)
    return runs
  }

  #viewOf(id: string, { label, can, names, createdAt, expiresAt }: TokenRecord): TokenView {
    return {
      id,
      label,
      can,
      names,
      createdAt: new Date(createdAt).toISOString(),
      expiresAt: new Date(expiresAt).toISOString(),
      expired: expiresAt <= this.#deps.now(),
    }
  }
}

/** 32 random bytes cannot be guessed, so a fast hash does. */
const digestOf = (secret: string): Uint8Array => blake3(Buffer.from(`catalog control token\0${secret}`))

const idOf = (digest: Uint8Array): string => Buffer.from(digest.subarray(0, 8)).toString('hex')

function decodeToken(value: Uint8Array): TokenRecord {
  const { v, ...record } = decodeCbor(value, maxRecordBytes, 'A token’s record') as TokenRecord & {
    v: number
  }
  if (v !== 1)
    throw new CatalogError('bad-record', `A token's record has version ${v}; this Catalog knows 1.`)
  return record
}
