// publish: from a directory to a release that peers can find.
//
//   path -scan, validate-> PackageTree -cut, hash, store-> ContentIndex -sign-> Release -catalogue-> durable
//        -ask peers, next head, sign-> Head -catalogue-> durable -announce-> DHT, peers
//
// Every step is durable before the next begins, and each can be done again: a crash anywhere leaves either
// nothing visible, or a release that publishing once more completes.
import { type ContentIndex, countFiles, encodeContentIndex } from '../assets/content-index.ts'
import type { ContentStore, ContentWriter } from '../assets/content-store.ts'
import { packTree } from '../assets/pack.ts'
import { type PackageTree, scanPackage } from '../assets/package-tree.ts'
import { manifestForRecord } from '../assets/parse-manifest.ts'
import { type Envelope, type ListedVersion, type ReleaseStatement, recordLimits } from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { addNextHead, type HeadDraft, listing, type NextHeadDeps, sealNextHead } from './next-head.ts'
import type { Release } from './resolve.ts'

export interface PublishDeps extends Omit<NextHeadDeps, 'publisher' | 'seal'> {
  readonly store: ContentStore
  readonly catalogue: NextHeadDeps['catalogue'] & {
    find(
      publisher: string,
      name: string,
      version: string,
    ): Promise<{ readonly id: string; readonly root: string } | undefined>
    release(id: string): Promise<Release | undefined>
    addRelease(envelope: Verified<Envelope<ReleaseStatement>>): Promise<unknown>
    restore(envelope: Verified<Envelope<ReleaseStatement>>): Promise<void>
  }
  /** As whom this node signs for a name. @throws CatalogError `certificate-name-not-granted` */
  readonly signsFor: (name: string) => Pick<NextHeadDeps, 'publisher' | 'seal'>
  /** A release of this publisher that was removed from this node, as it was signed. */
  readonly recall: (id: string) => Promise<Verified<Release> | undefined>
  /** Makes it durable that the release, its head and its content are to be announced. */
  readonly announce: (release: Release) => Promise<void>
}

/** Who signs is known once the package's name is. */
interface Publishing extends PublishDeps, Pick<NextHeadDeps, 'publisher' | 'seal'> {}

export interface PublishOptions extends CallOptions {
  readonly onProgress?: (phase: 'scan' | 'store' | 'sign', done: number, total: number) => void
}

export interface Published {
  readonly release: Release
  /** False when this very content was already published under this version. */
  readonly created: boolean
  readonly warnings: readonly string[]
}

/**
 * @throws CatalogError `invalid-manifest`, `invalid-package`, `no-such-path`, `version-exists`, `no-space`,
 *   `too-large`, `certificate-name-not-granted`
 */
export async function publish(
  parts: PublishDeps,
  path: string,
  options: PublishOptions = {},
): Promise<Published> {
  options.onProgress?.('scan', 0, 0)
  const tree = await scanPackage(path, options)
  refuseUnkeptPrivacy(tree)
  const { name } = tree.manifest.metadata
  // Before anything is stored: who may not publish the name need not wait for its bytes.
  const deps: Publishing = { ...parts, ...parts.signsFor(name) }
  const writer = await deps.store.createWriter(tree.totalBytes)
  try {
    const onProgress = (done: number) => options.onProgress?.('store', done, tree.totalBytes)
    const index = await packTree(tree.entries, writer, { signal: options.signal, onProgress })
    options.onProgress?.('sign', 0, 0)
    const { release, created } = await deps.exclusively(name, async () => {
      await deps.askPeers(name, options)
      return ensureReleased(deps, tree, index, writer)
    })
    await deps.announce(release)
    const warnings = tree.warnings.map(warning => `${warning.path}: ${warning.message}`)
    return { release, created, warnings: [...warnings, ...(await heldBack(deps, name))] }
  } finally {
    await writer.abort()
  }
}

// Better refused than shown to the whole network: who may see a release is enforced once peers carry certificates.
function refuseUnkeptPrivacy({ manifest }: PackageTree): void {
  const { privacy } = manifest.spec
  if (privacy === 'public-network' || privacy === 'full-public') return
  throw new CatalogError(
    'forbidden',
    `${manifest.metadata.name} asks for privacy ${JSON.stringify(privacy)}, which this version cannot enforce between nodes, so it was not published. Use "public-network" if every member of the network may see it.`,
  )
}

/** Published, and nobody will install it: better said by the publisher's own node than by everybody else's. */
async function heldBack({ catalogue, publisher }: Publishing, name: string): Promise<string[]> {
  const [proof] = await catalogue.contradictions(publisher, name)
  if (proof === undefined) return []
  const ids = proof.heads.map(({ id }) => id).join(' and ')
  return [
    `${name} is held back on every node: its heads ${ids} contradict each other under number ${proof.sequence}, signed by one key. Rotate the publisher's keys, then publish again.`,
  ]
}

/** The signed release of this content, made now or before, stored and listed by the name's head. */
async function ensureReleased(
  deps: Publishing,
  tree: PackageTree,
  index: ContentIndex,
  writer: ContentWriter,
): Promise<{ release: Release; created: boolean }> {
  const { name, version } = tree.manifest.metadata
  const { root } = encodeContentIndex(index)
  // Until a release names it, nothing else says that this content is wanted.
  using _lease = deps.store.lease(root)
  const head = await deps.catalogue.head(deps.publisher, name)
  const existing = await deps.catalogue.find(deps.publisher, name, version)
  if (existing !== undefined && existing.root !== root)
    throw versionExists(name, version, existing.id, 'is already published with other content')
  const listed = head?.statement.versions.find(each => each.version === version)
  const recalled = existing === undefined && listed !== undefined ? await deps.recall(listed.id) : undefined
  if (existing === undefined && listed !== undefined && recalled?.statement.root !== root)
    throw versionExists(
      name,
      version,
      listed.id,
      'was published before with other content and removed from this node',
    )
  // Signed before anything is visible: what cannot be signed must leave nothing behind.
  const known = existing === undefined ? undefined : await deps.catalogue.release(existing.id)
  const created = known === undefined ? (recalled ?? (await signRelease(deps, tree, index, root))) : undefined
  const release = (known ?? created) as Release
  const list = (draft: HeadDraft) => (listed === undefined ? withRelease(draft, release) : undefined)
  const next = await sealNextHead(deps, name, list)
  await writer.commit(index)
  if (recalled !== undefined) await deps.catalogue.restore(recalled)
  else if (created !== undefined) await deps.catalogue.addRelease(created)
  if (next !== undefined) await addNextHead(deps, name, list, next)
  return { release, created: created !== undefined && recalled === undefined }
}

const versionExists = (name: string, version: string, id: string, why: string) =>
  new CatalogError(
    'version-exists',
    `${name}@${version} ${why} (${id}). A version never changes: raise metadata.version and publish again, or fetch the published one with "catalog fetch ${id}".`,
    { id, name, version },
  )

function signRelease(
  deps: Publishing,
  tree: PackageTree,
  index: ContentIndex,
  root: string,
): Promise<Verified<Release>> {
  const { name, version } = tree.manifest.metadata
  const manifest = manifestForRecord(tree.manifest)
  return deps.seal<ReleaseStatement>({
    type: 'release',
    network: deps.network,
    publisher: deps.publisher,
    name,
    version,
    root,
    size: index.size,
    files: countFiles(index),
    blake3: index.blake3,
    sha256: index.sha256,
    manifestPath: tree.manifestPath,
    ...(encodeCbor(manifest).byteLength <= recordLimits.maxInlineManifestBytes ? { manifest } : {}),
    signedAt: deps.now(),
  })
}

/** @throws CatalogError `version-exists` when another machine of this publisher was first */
function withRelease(draft: HeadDraft, { id, statement: { name, version } }: Release): HeadDraft | undefined {
  const before = draft.versions.find((item: ListedVersion) => item.version === version)
  if (before?.id === id) return undefined
  if (before !== undefined)
    throw versionExists(name, version, before.id, 'was published elsewhere by this publisher')
  return listing(draft, { version, id }, name)
}
