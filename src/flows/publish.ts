// publish: from a directory to a release that peers can find.
//
//   path -scan, validate-> PackageTree -cut, hash, store-> ContentIndex -sign-> Release -catalogue-> durable
//        -next head, sign-> Head -catalogue-> durable -announce-> DHT, peers
//
// Every step is durable before the next begins, and each can be done again: a crash anywhere leaves either
// nothing visible, or a release that publishing once more completes.
import { type ContentIndex, countFiles, encodeContentIndex } from '../assets/content-index.ts'
import type { ContentStore, ContentWriter } from '../assets/content-store.ts'
import { compareVersions } from '../assets/name.ts'
import { packTree } from '../assets/pack.ts'
import { type PackageTree, scanPackage } from '../assets/package-tree.ts'
import { manifestForRecord } from '../assets/parse-manifest.ts'
import {
  type Envelope,
  type HeadStatement,
  type ReleaseStatement,
  recordLimits,
  type Statement,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import { encodeCbor } from '../base/cbor.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Head, Release } from './resolve.ts'

export interface PublishDeps {
  readonly network: string
  readonly publisher: string
  readonly now: () => number
  readonly store: ContentStore
  readonly seal: <S extends Statement>(statement: S) => Promise<Verified<Envelope<S>>>
  readonly catalogue: {
    find(
      publisher: string,
      name: string,
      version: string,
    ): Promise<{ readonly id: string; readonly root: string } | undefined>
    release(id: string): Promise<Release | undefined>
    head(publisher: string, name: string): Promise<Head | undefined>
    addRelease(envelope: Verified<Envelope<ReleaseStatement>>): Promise<unknown>
    addHead(envelope: Verified<Envelope<HeadStatement>>): Promise<unknown>
    restore(envelope: Verified<Envelope<ReleaseStatement>>): Promise<void>
  }
  /** A release of this publisher that was removed from this node, as it was signed. */
  readonly recall: (id: string) => Promise<Verified<Release> | undefined>
  /** Makes it durable that the release, its head and its content are to be announced. */
  readonly announce: (release: Release) => Promise<void>
  /** Runs alone among all that changes the same name's head. */
  readonly exclusively: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

export interface PublishOptions extends CallOptions {
  readonly onProgress?: (phase: 'scan' | 'store' | 'sign', done: number, total: number) => void
}

export interface Published {
  readonly release: Release
  /** False when this very content was already published under this version. */
  readonly created: boolean
  readonly warnings: readonly string[]
}

/** A head is good for 30 days; whoever publishes or renews makes it young again. */
export const headLifetimeMs = 30 * 24 * 3600 * 1000

/**
 * @throws CatalogError `invalid-manifest`, `invalid-package`, `no-such-path`, `version-exists`, `no-space`, `too-large`
 */
export async function publish(
  deps: PublishDeps,
  path: string,
  options: PublishOptions = {},
): Promise<Published> {
  options.onProgress?.('scan', 0, 0)
  const tree = await scanPackage(path, options)
  refuseUnkeptPrivacy(tree)
  const writer = await deps.store.createWriter(tree.totalBytes)
  try {
    const onProgress = (done: number) => options.onProgress?.('store', done, tree.totalBytes)
    const index = await packTree(tree.entries, writer, { signal: options.signal, onProgress })
    options.onProgress?.('sign', 0, 0)
    const { name } = tree.manifest.metadata
    const { release, created } = await deps.exclusively(name, () => ensureReleased(deps, tree, index, writer))
    await deps.announce(release)
    return { release, created, warnings: tree.warnings.map(warning => `${warning.path}: ${warning.message}`) }
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

/** The signed release of this content, made now or before, stored and listed by the name's head. */
async function ensureReleased(
  deps: PublishDeps,
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
  const next = listed === undefined ? await signHead(deps, release, head) : undefined
  await writer.commit(index)
  if (recalled !== undefined) await deps.catalogue.restore(recalled)
  else if (created !== undefined) await deps.catalogue.addRelease(created)
  if (next !== undefined) await deps.catalogue.addHead(next)
  return { release, created: created !== undefined && recalled === undefined }
}

const versionExists = (name: string, version: string, id: string, why: string) =>
  new CatalogError(
    'version-exists',
    `${name}@${version} ${why} (${id}). A version never changes: raise metadata.version and publish again, or fetch the published one with "catalog fetch ${id}".`,
    { id, name, version },
  )

function signRelease(
  deps: PublishDeps,
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

/** The head that follows, with the release in its list. */
async function signHead(
  deps: PublishDeps,
  { id, statement: { name, version } }: Release,
  head: Head | undefined,
): Promise<Verified<Head>> {
  const versions = head?.statement.versions ?? []
  if (versions.length >= recordLimits.maxVersions)
    throw new CatalogError(
      'too-large',
      `${name} has ${versions.length} versions, the most that one head can list.`,
    )
  return deps.seal<HeadStatement>({
    type: 'head',
    network: deps.network,
    publisher: deps.publisher,
    name,
    sequence: (head?.statement.sequence ?? 0) + 1,
    ...(head === undefined ? {} : { previous: head.id }),
    versions: [...versions, { version, id }].sort((a, b) => compareVersions(a.version, b.version)),
    signedAt: deps.now(),
    expiresAt: deps.now() + headLifetimeMs,
  })
}
