// Names, versions and REFs: what a package may be called and how a user points at a release.
import semver from 'semver'
import { type CidText, isCid } from '../base/cid.ts'
import { CatalogError } from '../base/errors.ts'

const namePattern = /^(?:[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\/)?[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/

/** Lower case letters, digits and inner dashes, at most 64, with an optional scope: `word-count`, `acme/word-count`. */
export const isPackageName = (text: string): boolean => namePattern.test(text)

/** Exactly a semantic version (https://semver.org), at most 128 characters: no leading `v`, no range. */
export const isSemanticVersion = (text: string): boolean =>
  text.length <= 128 && semver.valid(text) === text.split('+')[0] && semver.parse(text) !== null

export const isVersionRange = (text: string): boolean =>
  text.length <= 256 && semver.validRange(text) !== null

/** What a user names: a name with an optional range, or a CID (a release id or a content root: only a lookup tells). */
export type Ref =
  | { readonly kind: 'name'; readonly name: string; readonly range: string }
  | { readonly kind: 'cid'; readonly cid: CidText }

/** @throws CatalogError `invalid-ref` */
export function parseRef(text: string): Ref {
  if (isCid(text)) return { kind: 'cid', cid: text }
  const at = text.indexOf('@')
  const name = at === -1 ? text : text.slice(0, at)
  const range = at === -1 ? '*' : text.slice(at + 1)
  if (!isPackageName(name))
    throw new CatalogError(
      'invalid-ref',
      `${JSON.stringify(text.slice(0, 200))} names no package: write name, name@range, scope/name, a release id or a content root.`,
      { ref: text.slice(0, 200) },
    )
  if (range === '' || !isVersionRange(range))
    throw new CatalogError(
      'invalid-ref',
      `${JSON.stringify(range.slice(0, 200))} is not a version range: write for example ${name}@1.2.0 or ${name}@^1.0.0.`,
      { ref: text.slice(0, 200) },
    )
  return { kind: 'name', name, range }
}

/** The highest version in the range; pre-releases only when the range names one, or when there is nothing else. */
export function highestVersion<T extends { readonly version: string }>(
  candidates: readonly T[],
  range: string,
): T | undefined {
  const best = (pool: readonly T[]) =>
    pool.reduce<T | undefined>(
      (top, item) => (top === undefined || semver.gt(item.version, top.version) ? item : top),
      undefined,
    )
  const stable = best(candidates.filter(item => semver.satisfies(item.version, range)))
  return stable ?? (range === '*' ? best(candidates) : undefined)
}

export const compareVersions = (a: string, b: string): number => semver.compareBuild(a, b)
