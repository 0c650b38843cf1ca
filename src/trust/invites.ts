// The invites that this authority has given out: what each grants, and who has used it. One peer uses an invite once;
// the same peer may come again until it expires, because its machine may have failed in the middle.
//
//   records: `<hex of id>` = canonical CBOR { v: 1, secret, expires, roles, capabilities, label?, usedBy? (peer), usedAt? }
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { KeyValue } from '../base/key-value.ts'
import { OneAtATime } from '../base/one-at-a-time.ts'
import { type NodeCapability, type NodeRole, nodeCapabilities, nodeRoles } from './certificate.ts'
import { decodeStrictly } from './document.ts'
import { Fields } from './fields.ts'
import { inviteIdBytes, inviteSecretBytes } from './invite.ts'

export interface InvitesOptions {
  /** Milliseconds that an invite lives where nothing else is said, and at most. */
  readonly expiresMs: number
  readonly maxExpiresMs: number
  /** Kept at once, used ones among them; more are refused until some expire. */
  readonly maxInvites: number
  /** Milliseconds that an expired one is kept, to tell who comes late what is wrong. */
  readonly keepExpiredMs: number
}

export const defaultInvitesOptions: InvitesOptions = {
  expiresMs: 24 * 3600 * 1000,
  maxExpiresMs: 30 * 24 * 3600 * 1000,
  maxInvites: 1000,
  keepExpiredMs: 7 * 24 * 3600 * 1000,
}

export interface InviteGrant {
  readonly roles: readonly NodeRole[]
  readonly capabilities: readonly NodeCapability[]
  readonly label?: string | undefined
}

export interface Redeemed extends InviteGrant {
  /** When the same peer used it first, in milliseconds since 1970; absent the first time. */
  readonly usedBefore?: number
}

export interface NewInvite extends InviteGrant {
  readonly expiresMs?: number | undefined
}

interface Stored extends InviteGrant {
  readonly secret: Uint8Array
  readonly expires: number
  readonly usedBy?: string
  readonly usedAt?: number
}

/** HMAC-SHA256 (RFC 2104) by an invite's secret, for one purpose. */
export const inviteMac = (
  secret: Uint8Array,
  purpose: string,
  ...parts: readonly Uint8Array[]
): Uint8Array => {
  const hmac = createHmac('sha256', secret).update(`catalog/invite/v1 ${purpose}\n`)
  for (const part of parts) hmac.update(part)
  return new Uint8Array(hmac.digest())
}

export const equalMacs = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength && timingSafeEqual(a, b)

export class Invites {
  readonly #records: KeyValue
  readonly #now: () => number
  readonly #options: InvitesOptions
  readonly #turn = new OneAtATime()

  constructor(
    { records, now }: { readonly records: KeyValue; readonly now: () => number },
    options: Partial<InvitesOptions> = {},
  ) {
    this.#records = records
    this.#now = now
    this.#options = { ...defaultInvitesOptions, ...options }
  }

  /** Durable when it resolves. @throws CatalogError `quota-exceeded`, `invalid-request` */
  create({
    expiresMs,
    ...grant
  }: NewInvite): Promise<{ id: Uint8Array; secret: Uint8Array; expires: number }> {
    const { maxExpiresMs, maxInvites } = this.#options
    const lifetimeMs = expiresMs ?? this.#options.expiresMs
    return this.#turn.run(async () => {
      if (!(lifetimeMs > 0 && lifetimeMs <= maxExpiresMs))
        throw new CatalogError('invalid-request', `An invite lives up to ${maxExpiresMs / 86_400_000} days.`)
      if ((await this.#dropOld()) >= maxInvites)
        throw new CatalogError(
          'quota-exceeded',
          `${maxInvites} invites are out; make more when some have expired.`,
        )
      const [id, secret] = [randomBytes(inviteIdBytes), randomBytes(inviteSecretBytes)]
      const stored = { ...grant, secret, expires: Math.floor(this.#now() + lifetimeMs) }
      await this.#records.put(keyOf(id), encodeStored(stored))
      return { id: new Uint8Array(id), secret: new Uint8Array(secret), expires: stored.expires }
    })
  }

  /**
   * The secret of an invite whose owner has shown that he knows it.
   * @throws CatalogError `invite-invalid`: unknown, or the proof is wrong; which of both nobody learns
   */
  async secretOf(id: Uint8Array, holds: (secret: Uint8Array) => boolean): Promise<Uint8Array> {
    const stored = await this.#load(id)
    const secret = stored?.secret ?? new Uint8Array(inviteSecretBytes)
    if (!holds(secret) || stored === undefined)
      throw new CatalogError(
        'invite-invalid',
        'The invite is not known here, or its secret is wrong. Ask for a new one.',
      )
    return secret
  }

  /**
   * Marks it as used by this peer, durable when it resolves; only after `secretOf`.
   * @throws CatalogError `invite-expired`, `invite-used`, `invite-invalid`
   */
  redeem(id: Uint8Array, peer: string): Promise<Redeemed> {
    return this.#turn.run(async () => {
      const stored = await this.#load(id)
      if (stored === undefined)
        throw new CatalogError('invite-invalid', 'The invite is not known here. Ask for a new one.')
      if (this.#now() > stored.expires)
        throw new CatalogError(
          'invite-expired',
          `The invite expired at ${new Date(stored.expires).toISOString()}, and here it is ${new Date(this.#now()).toISOString()}. Ask for a new one.`,
        )
      if (stored.usedBy !== undefined && stored.usedBy !== peer)
        throw new CatalogError(
          'invite-used',
          'The invite was used by another node. An invite lets one node in: ask for a new one.',
        )
      if (stored.usedBy === undefined)
        await this.#records.put(keyOf(id), encodeStored({ ...stored, usedBy: peer, usedAt: this.#now() }))
      const { roles, capabilities, label, usedAt: usedBefore } = stored
      return {
        ...{ roles, capabilities },
        ...(label === undefined ? {} : { label }),
        ...(usedBefore === undefined ? {} : { usedBefore }),
      }
    })
  }

  async #load(id: Uint8Array): Promise<Stored | undefined> {
    const value = await this.#records.get(keyOf(id))
    return value === undefined ? undefined : decodeStored(value)
  }

  /** How many are left. */
  async #dropOld(): Promise<number> {
    let left = 0
    for await (const [key, value] of this.#records.entries({ prefix: '' }))
      if (decodeStored(value).expires + this.#options.keepExpiredMs < this.#now())
        await this.#records.delete(key)
      else left += 1
    return left
  }
}

const keyOf = (id: Uint8Array): string => Buffer.from(id).toString('hex')

const encodeStored = (stored: Stored): Uint8Array =>
  encodeCbor({
    v: 1,
    ...Object.fromEntries(Object.entries(stored).filter(([, value]) => value !== undefined)),
    roles: [...new Set(stored.roles)].sort(),
    capabilities: [...new Set(stored.capabilities)].sort(),
  })

function decodeStored(value: Uint8Array): Stored {
  const known = ['v', 'secret', 'expires', 'roles', 'capabilities', 'label', 'usedBy', 'usedAt']
  const fields = new Fields(decodeStrictly(value, 4096, 'A stored invite'), known, 'A stored invite')
  fields.version(1)
  return {
    secret: fields.bytes('secret', inviteSecretBytes),
    expires: fields.natural('expires'),
    roles: fields.texts('roles', nodeRoles.length, text =>
      nodeRoles.includes(text as NodeRole),
    ) as readonly NodeRole[],
    capabilities: fields.texts('capabilities', nodeCapabilities.length, text =>
      nodeCapabilities.includes(text as NodeCapability),
    ) as readonly NodeCapability[],
    ...(fields.has('label') ? { label: fields.text('label', 200) } : {}),
    ...(fields.has('usedBy') ? { usedBy: fields.text('usedBy', 128), usedAt: fields.natural('usedAt') } : {}),
  }
}
