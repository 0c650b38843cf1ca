// yank: what a publisher says of what it has published: nobody should take this version up (yank), nobody may install it
// (revoke, for good), the whole package has had its day (deprecate). Signed into the name's next head, which carries it
// to everybody.
import type { ListedVersion } from '../assets/release.ts'
import { recordLimits } from '../assets/release.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import { addNextHead, type HeadChange, type HeadDraft, type NextHeadDeps } from './next-head.ts'
import type { Head } from './resolve.ts'

export interface YankDeps extends NextHeadDeps {
  readonly announceHead: (publisher: string, name: string) => Promise<void>
}

export interface Marked {
  readonly head: Head
  /** False when it said so already. */
  readonly changed: boolean
}

export type VersionMark =
  | { readonly kind: 'yanked' | 'revoked'; readonly reason: string }
  | { readonly kind: 'not-yanked' }

/** @throws CatalogError `not-found` (this publisher's head does not list it), `invalid-request`, `too-large` */
export function markVersion(
  deps: YankDeps,
  name: string,
  version: string,
  mark: VersionMark,
  options: CallOptions = {},
): Promise<Marked> {
  if (mark.kind !== 'not-yanked') checkText(mark.reason, recordLimits.maxReasonLength, 'The reason')
  return changeHead(
    deps,
    name,
    draft => {
      const item = draft.versions.find(each => each.version === version)
      if (item === undefined) throw notOurs(deps, `${name}@${version}`)
      const next = markedVersion(item, mark)
      if (next.yanked === item.yanked && next.revoked === item.revoked) return undefined
      return { ...draft, versions: draft.versions.map(each => (each === item ? next : each)) }
    },
    options,
  )
}

function markedVersion({ yanked, ...item }: ListedVersion, mark: VersionMark): ListedVersion {
  if (mark.kind === 'not-yanked') return item
  if (mark.kind === 'yanked') return { ...item, yanked: mark.reason }
  return { ...item, ...(yanked === undefined ? {} : { yanked }), revoked: item.revoked ?? mark.reason }
}

/** Undefined ends the deprecation. @throws as `markVersion` */
export function deprecate(
  deps: YankDeps,
  name: string,
  message: string | undefined,
  options: CallOptions = {},
): Promise<Marked> {
  if (message !== undefined) checkText(message, recordLimits.maxDeprecationLength, 'The message')
  return changeHead(
    deps,
    name,
    (draft: HeadDraft) => {
      const { deprecated, ...rest } = draft
      if (deprecated === message) return undefined
      return message === undefined ? rest : { ...rest, deprecated: message }
    },
    options,
  )
}

function changeHead(deps: YankDeps, name: string, change: HeadChange, options: CallOptions): Promise<Marked> {
  return deps.exclusively(name, async () => {
    await deps.askPeers(name, options)
    const current = await deps.catalogue.head(deps.publisher, name)
    if (current === undefined) throw notOurs(deps, name)
    const next = await addNextHead(deps, name, change)
    if (next !== undefined) await deps.announceHead(deps.publisher, name)
    return { head: next ?? current, changed: next !== undefined }
  })
}

const notOurs = ({ publisher }: YankDeps, what: string) =>
  new CatalogError(
    'not-found',
    `${what} is not among what the publisher of this node (${publisher}) has published, and nobody else's can be changed here. "catalog list" shows what is known.`,
    { publisher },
  )

function checkText(text: string, maxLength: number, what: string): void {
  if (text.trim() !== '' && text.length <= maxLength && !/\p{Cc}/u.test(text)) return
  throw new CatalogError(
    'invalid-request',
    `${what} must be one line of 1 to ${maxLength} characters; it has ${text.length}.`,
  )
}
