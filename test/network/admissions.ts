// Who belongs to a network, for tests that are not about certificates: everybody, or those on a list.
import { CatalogError } from '../../src/base/errors.ts'
import type { Admission, Admissions, Capability } from '../../src/network/admission.ts'

const all: readonly Capability[] = ['fetch', 'publish', 'replicate', 'execute']

export const everybody: Admissions = {
  credential: () => new Uint8Array([1]),
  admit: async peer => ({
    capabilities: new Set(all),
    roles: new Set(),
    certificate: peer,
    notAfter: Number.POSITIVE_INFINITY,
  }),
}

/** Members are those whose credential is a name on the list; all hosts of a test share one. */
export class MemberList {
  readonly #members = new Map<string, Admission>()
  /** What was asked of it, in order. */
  readonly asked: string[] = []

  add(name: string, capabilities: readonly Capability[] = all, notAfter = Number.POSITIVE_INFINITY): this {
    this.#members.set(name, {
      capabilities: new Set(capabilities),
      roles: new Set(['store']),
      certificate: `certificate-of-${name}`,
      notAfter,
    })
    return this
  }

  revoke(name: string): void {
    this.#members.delete(name)
  }

  /** For the host that goes by this name; `undefined`: it has no credential yet. */
  for(
    name: string | (() => string | undefined),
    before: () => Promise<void> = async () => undefined,
  ): Admissions {
    return {
      credential: () => {
        const own = typeof name === 'string' ? name : name()
        if (own === undefined)
          throw new CatalogError('not-a-member', 'This node has no certificate yet. Join first.')
        return Buffer.from(own)
      },
      admit: async (_peer, credential, { signal }) => {
        const other = Buffer.from(credential).toString()
        this.asked.push(other)
        const admission = this.#members.get(other)
        await before()
        signal?.throwIfAborted()
        if (admission === undefined)
          throw new CatalogError('certificate-revoked', `The certificate of ${other} was revoked.`)
        return admission
      },
    }
  }
}
