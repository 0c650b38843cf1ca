// As whom this node may sign: its own publisher, and those that have delegated to its keys. Which one signs for a name
// is decided here, so that a flow asks for a name and gets somebody who holds it.
import { equalBytes } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import {
  type Certificate,
  decodeChain,
  leafOf,
  type PublisherGrant,
  type PublisherRight,
} from './certificate.ts'
import type { Chain } from './certificate-files.ts'
import type { EnvelopeSigner } from './envelope.ts'
import { grantsName } from './name-pattern.ts'
import type { Signer } from './signer.ts'

export interface PublisherIdentity extends EnvelopeSigner {
  readonly certificate: Certificate<PublisherGrant>
  readonly chain: Chain
}

export interface PublisherIdentitiesDeps {
  readonly signer: Signer
  /** Why others would not believe now what is signed with a chain; undefined where they would. */
  readonly refusalOf?: (chain: Chain) => CatalogError | undefined
}

export class PublisherIdentities {
  readonly #refusalOf: (chain: Chain) => CatalogError | undefined
  #signer: Signer
  #own: PublisherIdentity
  #delegated: readonly PublisherIdentity[] = []

  /** @throws CatalogError `certificate-malformed`, `certificate-wrong-usage` (a chain that is not these keys') */
  constructor(
    deps: PublisherIdentitiesDeps,
    chains: { readonly own: Chain; readonly delegations: readonly Chain[] },
  ) {
    this.#signer = deps.signer
    this.#refusalOf = deps.refusalOf ?? (() => undefined)
    this.#own = this.#identity(chains.own)
    // A rotation that a crash cut short may have left some that were made for the keys before.
    this.#delegated = chains.delegations
      .filter(chain => this.#isForKeys(chain))
      .map(chain => this.#identity(chain))
  }

  /** What signs for all of them now. Its keys never change: ask again for each piece of work. */
  get signer(): Signer {
    return this.#signer
  }

  /** This node's own publisher id. */
  get publisher(): string {
    return this.#own.fingerprint
  }

  /** Own first. */
  list(): readonly PublisherIdentity[] {
    return [this.#own, ...this.#delegated]
  }

  isOwn(publisher: string): boolean {
    return this.list().some(identity => identity.fingerprint === publisher)
  }

  /** Takes a new chain for these keys: in place of the own one, or of the one from the same publisher. */
  replace(chain: Chain): 'own' | 'delegation' {
    const identity = this.#identity(chain)
    if (identity.fingerprint === this.publisher && this.#isAuthorised(identity)) {
      this.#own = identity
      return 'own'
    }
    const others = this.#delegated.filter(({ fingerprint }) => fingerprint !== identity.fingerprint)
    this.#delegated = [...others, identity]
    return 'delegation'
  }

  /**
   * New keys, with the own chain for them, in one step; what is being signed ends with the old ones. Gives the ids of
   * the publishers that had delegated to the old keys: they must do it again.
   */
  rotate(signer: Signer, chain: Chain): readonly string[] {
    const lost = this.#delegated.map(({ fingerprint }) => fingerprint)
    this.#signer = signer
    this.#own = this.#identity(chain)
    this.#delegated = []
    return lost
  }

  /**
   * Who signs for a name: whoever has published it from here before, else own before delegated.
   * @throws CatalogError `certificate-name-not-granted`, and where nobody would believe it, what is wrong with the chain
   */
  for(name: string, rights: readonly PublisherRight[], publisher?: string): PublisherIdentity {
    const able = this.list().filter(
      ({ certificate, fingerprint }) =>
        (publisher === undefined || fingerprint === publisher) &&
        grantsName(certificate.names, name) &&
        rights.some(right => certificate.rights.includes(right)),
    )
    const good = able.find(({ chain }) => this.#refusalOf(chain) === undefined)
    if (good !== undefined) return good
    const refusal = able[0] && this.#refusalOf(able[0].chain)
    if (refusal !== undefined)
      throw new CatalogError(
        refusal.code,
        `Nothing was signed for ${name}, because no other node would believe it. ${refusal.message} An authority of the network can give this publisher another certificate.`,
        { ...refusal.data, name },
      )
    const names = this.list().flatMap(({ certificate }) => certificate.names)
    throw new CatalogError(
      'certificate-name-not-granted',
      `This node may not sign for ${name}${publisher === undefined ? '' : ` as ${publisher}`}: its certificates grant ${names.join(', ') || 'no names'}. Ask who holds the name, or an authority of the network, for \`catalog trust grant '${name}' --to PEER\` with the peer id that \`catalog status\` shows.`,
      { name, granted: names },
    )
  }

  /** An authority made it, not a publisher that delegates. */
  #isAuthorised({ chain }: PublisherIdentity): boolean {
    return decodeChain(chain)[1]?.type !== 'publisher'
  }

  #isForKeys(chain: Chain): boolean {
    const { ed25519, falcon } = this.#signer.publicKeys
    const subject = leafOf(chain).subject
    return subject !== undefined && equalBytes(subject.ed25519, ed25519) && equalBytes(subject.falcon, falcon)
  }

  #identity(chain: Chain): PublisherIdentity {
    const [leaf] = decodeChain(chain)
    if (leaf?.type !== 'publisher')
      throw new CatalogError(
        'certificate-wrong-usage',
        "The node's publisher certificate is of another kind.",
      )
    const signer = this.#signer
    return {
      fingerprint: leaf.publisher,
      publicKeys: signer.publicKeys,
      chain,
      certificate: leaf,
      sign: message => signer.sign(message),
    }
  }
}
