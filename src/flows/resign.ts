// resign: signs the heads of this publisher anew after its keys were rotated, so that they stand on the new ones. What
// contradicting heads were signed with the old keys is united by it (next-head.ts), and the hold-up ends.
//
// Versions that were signed with the old keys, but listed by no head that this node signed, are told; where others may
// have those keys, they are yanked: that can be undone, once a person has looked.
import { type ListedVersion, signingKeyOf } from '../assets/release.ts'
import { equalBytes } from '../base/cbor.ts'
import type { CidText } from '../base/cid.ts'
import { addNextHead, type HeadDraft, type NextHeadDeps } from './next-head.ts'
import type { Head, Release } from './resolve.ts'

export interface ResignDeps extends NextHeadDeps {
  readonly catalogue: NextHeadDeps['catalogue'] & {
    list(): readonly { readonly id: CidText; readonly publisher: string; readonly name: string }[]
    release(id: CidText): Promise<Release | undefined>
    /** The last head of the name that this node signed. */
    signedHere(publisher: string, name: string): Promise<Head | undefined>
  }
  /** Whether this node's certificate lets it sign heads of a name. */
  readonly signs: (name: string) => boolean
  readonly announceHead: (publisher: string, name: string) => Promise<void>
}

export interface OldKeys {
  /** The Ed25519 key. */
  readonly key: Uint8Array
  /** Others may have them. */
  readonly distrusted: boolean
}

export interface Resigned {
  /** How many were signed. */
  readonly heads: number
  /** Sentences: what was not, and versions that a person should look at. */
  readonly warnings: readonly string[]
}

const yankReason = 'Signed with keys that were replaced because others may have them.'

/** One name that fails does not keep the others from being signed. */
export async function resignHeads(deps: ResignDeps, old: OldKeys): Promise<Resigned> {
  const own = deps.catalogue.list().filter(({ publisher }) => publisher === deps.publisher)
  const warnings: string[] = []
  let heads = 0
  for (const name of new Set(own.map(release => release.name))) {
    if (!deps.signs(name)) continue
    const ids = own.filter(release => release.name === name).map(({ id }) => id)
    try {
      const unknown = await deps.exclusively(name, () => resign(deps, name, ids, old))
      if (unknown === undefined) continue
      heads += 1
      if (unknown.length > 0) warnings.push(unknownVersions(deps, name, unknown, old))
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      warnings.push(
        `The head of ${name} was not signed anew: ${why} \`catalog trust rotate publisher\` tries again with other keys.`,
      )
    }
  }
  return { heads, warnings }
}

const unknownVersions = (
  { publisher }: ResignDeps,
  name: string,
  versions: readonly string[],
  { distrusted }: OldKeys,
): string =>
  `${name} ${versions.join(', ')} was signed with the old keys, but not by this node${distrusted ? ', and is yanked now' : ''}. If the publisher ${publisher} did not mean it, revoke it (\`catalog yank --revoke\`).`

/** The versions that were signed elsewhere; undefined where there was nothing to sign. */
async function resign(
  deps: ResignDeps,
  name: string,
  ids: readonly CidText[],
  { key, distrusted }: OldKeys,
): Promise<readonly string[] | undefined> {
  const { catalogue, publisher } = deps
  await deps.askPeers(name, {})
  if ((await catalogue.head(publisher, name)) === undefined) return undefined
  const here = await catalogue.signedHere(publisher, name)
  const listedHere = new Set(here?.statement.versions.map(({ id }) => id))
  const foreign = new Set<CidText>()
  for (const id of ids) {
    const release = listedHere.has(id) ? undefined : await catalogue.release(id)
    if (release !== undefined && equalBytes(signingKeyOf(release), key)) foreign.add(id)
  }
  const isForeign = (item: ListedVersion) => foreign.has(item.id) && item.revoked === undefined
  const mark = (item: ListedVersion): ListedVersion =>
    isForeign(item) ? { ...item, yanked: item.yanked ?? yankReason } : item
  const next = await addNextHead(deps, name, (draft: HeadDraft) => ({
    ...draft,
    versions: distrusted ? draft.versions.map(mark) : draft.versions,
  }))
  if (next === undefined) return undefined
  await deps.announceHead(publisher, name)
  return next.statement.versions.filter(isForeign).map(({ version }) => version)
}
