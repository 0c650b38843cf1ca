// What a node believes and who it is, put together for node.ts: the trust chain over the catalogue's notices, the
// port that the gate of the network asks, and the identities that it signs as. A part of the composition root.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeCbor, encodeCbor, equalBytes } from './base/cbor.ts'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { OneAtATime } from './base/one-at-a-time.ts'
import type { TrustPaths } from './config/home.ts'
import type { HomeKeys } from './home-keys.ts'
import { type Admission, type Admissions, maxCredentialBytes } from './network/admission.ts'
import { keyOfPeer } from './network/identity.ts'
import type { Certificate } from './trust/certificate.ts'
import { decodeChain, type NodeGrant } from './trust/certificate.ts'
import {
  type Chain,
  dropNotices,
  loadChain,
  loadChains,
  loadFirstRoot,
  loadNotices,
  saveChain,
} from './trust/certificate-files.ts'
import { PeerClocks } from './trust/peer-clocks.ts'
import type { PublisherIdentities } from './trust/publisher-identities.ts'
import { decodeRoot } from './trust/root.ts'
import type { Signer } from './trust/signer.ts'
import { rootNotice, type Standing, TrustChain, type TrustChainDeps } from './trust/trust-chain.ts'

/** The certificates of a home, read from its files. */
export interface HomeCertificates {
  readonly firstRoot: Uint8Array
  readonly node: Chain
  readonly publisher: Chain
  readonly delegations: readonly Chain[]
  readonly authority: Chain | undefined
}

/** @throws CatalogError `not-a-member` where one is missing */
export async function loadHomeCertificates(paths: TrustPaths): Promise<HomeCertificates> {
  const [firstRoot, node, publisher, authority, delegations] = await Promise.all([
    loadFirstRoot(paths.firstRoot),
    loadChain(paths.node),
    loadChain(paths.publisher),
    loadChain(paths.authority),
    loadChains(paths.delegations),
  ])
  if (firstRoot === undefined || node === undefined || publisher === undefined)
    throw new CatalogError(
      'not-a-member',
      `The certificates of this node are missing from ${paths.directory}. Restore them from a backup, or join the network again with \`catalog init --join INVITE\`.`,
      { directory: paths.directory },
    )
  return { firstRoot, node, publisher, authority, delegations }
}

export interface NetworkTrustDeps extends TrustChainDeps {
  readonly keys: HomeKeys
  readonly identities: PublisherIdentities
  readonly certificates: HomeCertificates
  readonly log: Log
}

/** How many of the newest roots travel with a credential, for peers that have not heard of them. */
const rootsShown = 16
/** The chain beside them takes at most 24 KiB of the 64. */
const maxRootBytes = 36 * 1024

export class NetworkTrust implements Admissions {
  readonly chain: TrustChain
  readonly identities: PublisherIdentities
  readonly clocks: PeerClocks
  readonly #deps: NetworkTrustDeps
  readonly #paths: TrustPaths
  #node: Chain
  #roots: readonly Uint8Array[] = []
  #clockIsWrong = false
  /** A certificate for the keys of before must not come in while they are replaced. */
  readonly #changes = new OneAtATime()

  constructor(deps: NetworkTrustDeps, options: { readonly paths: TrustPaths; readonly root: string }) {
    const { certificates, identities } = deps
    this.#deps = deps
    this.#paths = options.paths
    this.#node = certificates.node
    const { firstRoot } = certificates
    // A config that says nothing leaves it to the root that this home was made with.
    const network = options.root === '' ? decodeRoot(firstRoot).fingerprint : options.root
    this.chain = new TrustChain(deps, { firstRoot, network })
    this.identities = identities
    this.clocks = new PeerClocks({ now: deps.now, uptime: () => performance.now() })
  }

  /** After the catalogue. @throws CatalogError `root-not-trusted` when the home's root is not the config's */
  async start(): Promise<void> {
    await this.chain.start()
    for (const bytes of await loadNotices(this.#paths.notices))
      await this.chain.accept(bytes).catch((error: unknown) => {
        // A wrong clock must not keep a node from starting: what it says then tells more than a refusal here.
        if (!isCatalogError(error, 'stale-record'))
          this.#deps.log.warn({ error: String(error) }, 'what came with the certificates is not believed')
      })
    await dropNotices(this.#paths.notices)
    await this.#collectRoots()
    this.chain.onChange(change => {
      if (change === 'root') void this.#collectRoots()
    })
    const standing = this.standing()
    if (standing.state !== 'current')
      this.#deps.log.warn({ why: standing.why }, 'the certificate of this node is not in order')
  }

  /** What this node's own certificate is worth now. */
  standing(): Standing {
    const ed25519 = this.#deps.keys.node.ed25519.publicKey
    return this.chain.standingOf(this.#node, { kind: 'node', ed25519 })
  }

  get node(): Chain {
    return this.#node
  }

  /** canonical CBOR { v: 1, chain, roots: the newest after the first, oldest first; time: by this node's clock, in ms } */
  credential(): Uint8Array {
    return encodeCbor({ v: 1, chain: this.#node, roots: this.#roots, time: this.#deps.now() })
  }

  async admit(peer: string, credential: Uint8Array): Promise<Admission> {
    const { chain, roots, time } = decodeCredential(credential)
    const ed25519 = keyOfPeer(peer)
    if (ed25519 === undefined)
      throw new CatalogError('not-a-member', `The peer ${peer} has no Ed25519 key, which every node has.`)
    for (const root of roots) await this.chain.accept(root).catch(ignoreOld)
    const certificates = await this.chain.prove(chain, { kind: 'node', ed25519 })
    const [leaf] = certificates as readonly [Certificate<NodeGrant>]
    if (time !== undefined) this.#compareClocks(peer, time)
    return {
      capabilities: new Set(leaf.capabilities),
      roles: new Set(leaf.roles),
      certificate: leaf.fingerprint,
      notAfter: Math.min(...certificates.map(({ notAfter }) => notAfter)),
    }
  }

  /**
   * Takes a certificate made for this node's keys: proved, saved, and used from now on.
   * @throws CatalogError with a `certificate-…` code
   */
  install(chain: Chain): Promise<'node' | 'publisher' | 'delegation'> {
    return this.#changes.run(() => this.#install(chain))
  }

  async #install(chain: Chain): Promise<'node' | 'publisher' | 'delegation'> {
    const [leaf] = await this.chain.prove(chain, { kind: 'any' })
    const { node } = this.#deps.keys
    if (leaf?.type === 'node' && equalBytes(leaf.subject.ed25519, node.ed25519.publicKey)) {
      await saveChain(this.#paths.node, chain)
      this.#node = chain
      return 'node'
    }
    if (
      leaf?.type !== 'publisher' ||
      !equalBytes(leaf.subject.ed25519, this.identities.signer.publicKeys.ed25519)
    )
      throw new CatalogError('certificate-wrong-usage', 'The certificate is not for the keys of this node.')
    const issuer = decodeChain(chain)[1]
    const own = leaf.publisher === this.identities.publisher && issuer?.type !== 'publisher'
    await saveChain(own ? this.#paths.publisher : this.#delegationPath(leaf.publisher), chain)
    this.identities.replace(chain)
    return own ? 'publisher' : 'delegation'
  }

  /**
   * Takes other keys for this node's publisher, with the chain for them, once `commit` has made both durable. Gives the
   * publishers that had delegated to the keys of before.
   */
  rotate(signer: Signer, chain: Chain, commit: () => Promise<void>): Promise<readonly string[]> {
    return this.#changes.run(async () => {
      await commit()
      const lost = this.identities.rotate(signer, chain)
      for (const publisher of lost) await rm(this.#delegationPath(publisher), { force: true })
      return lost
    })
  }

  #delegationPath(publisher: string): string {
    return join(this.#paths.delegations, `${publisher}.chain`)
  }

  /** Told once each time that it comes. */
  #compareClocks(peer: string, time: number): void {
    this.clocks.note(peer, time)
    const trouble = this.clocks.trouble()
    if (trouble !== undefined && !this.#clockIsWrong)
      this.#deps.log.warn({ why: trouble }, 'a clock is wrong')
    this.#clockIsWrong = trouble !== undefined
  }

  async #collectRoots(): Promise<void> {
    const roots: Uint8Array[] = []
    let room = maxRootBytes
    for (let at = this.chain.root.version; at > 1 && roots.length < rootsShown; at--) {
      const bytes = await this.#deps.notices.notice(rootNotice(at))
      room -= bytes?.byteLength ?? 0
      if (bytes === undefined || room < 0) break
      roots.unshift(bytes)
    }
    this.#roots = roots
  }
}

function decodeCredential(bytes: Uint8Array): {
  readonly chain: Uint8Array[]
  readonly roots: Uint8Array[]
  readonly time?: number
} {
  const raw = decodeCbor(bytes, maxCredentialBytes, 'A credential') as Record<string, unknown> | null
  const { v, chain, roots, time } = raw ?? {}
  const areBytes = (value: unknown, max: number): value is Uint8Array[] =>
    Array.isArray(value) && value.length <= max && value.every(one => one instanceof Uint8Array)
  if (v !== 1 || !areBytes(chain, 8) || !areBytes(roots, rootsShown))
    throw new CatalogError('not-a-member', 'The peer showed something that is no credential.')
  return { chain, roots, ...(Number.isSafeInteger(time) ? { time: time as number } : {}) }
}

function ignoreOld(error: unknown): void {
  if (!isCatalogError(error, 'stale-record')) throw error
}
