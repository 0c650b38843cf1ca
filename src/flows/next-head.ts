// next-head: how the next head of one of this publisher's names is made: from the one that is known, and where others of
// the publisher's machines signed heads at the same time, from all of them, so that nothing that was listed is lost.
//
//   current head, contradicting heads -union-> Draft -change-> Draft -number, link, sign-> Head -catalogue-> durable
//        refused, because another came first: once more, from that one

import type { Equivocation } from '../assets/equivocation.ts'
import { compareVersions } from '../assets/name.ts'
import {
  type Envelope,
  type HeadStatement,
  type ListedVersion,
  recordLimits,
  type Statement,
} from '../assets/release.ts'
import type { Verified } from '../assets/stage.ts'
import type { CidText } from '../base/cid.ts'
import { withTimeout } from '../base/deadline.ts'
import { CatalogError, type ErrorCode, isCatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Head } from './resolve.ts'

export interface NextHeadDeps {
  readonly network: string
  /** The publisher's id: other machines may sign for it too. */
  readonly publisher: string
  readonly now: () => number
  readonly seal: <S extends Statement>(statement: S) => Promise<Verified<Envelope<S>>>
  readonly catalogue: {
    head(publisher: string, name: string): Promise<Head | undefined>
    contradictions(publisher: string, name: string): Promise<readonly Equivocation[]>
    /** Heads that other machines of the publisher signed without knowing of the current one. */
    divergent(publisher: string, name: string): Promise<readonly Head[]>
    addHead(
      envelope: Verified<Envelope<HeadStatement>>,
      options: { readonly unseen: boolean },
    ): Promise<unknown>
  }
  /** Brings what connected peers know of the name's heads; never throws for a peer's failure. */
  readonly askPeers: (name: string, options: CallOptions) => Promise<void>
  /** Runs alone among all that changes the same name's head. */
  readonly exclusively: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

/** What a publisher decides of a head. */
export interface HeadDraft {
  readonly versions: readonly ListedVersion[]
  readonly deprecated?: string
}

/** Undefined: leave it as it is. */
export type HeadChange = (draft: HeadDraft) => HeadDraft | undefined

/** A head is good for 30 days; whoever publishes or renews makes it young again. */
export const headLifetimeMs = recordLimits.maxFreshMs

/** Others of the publisher's machines may be signing too; more rounds than that are no accident. */
const maxAttempts = 8
const raced: ReadonlySet<ErrorCode> = new Set([
  'stale-record',
  'equivocation',
  'head-fork',
  'head-delisted',
  'head-replaced',
])

/**
 * Changes the head of a name. Durable when it resolves, and undefined where nothing had to change.
 * @throws CatalogError what the change throws, and `too-large`
 */
export async function addNextHead(
  deps: NextHeadDeps,
  name: string,
  change: HeadChange,
  first?: Verified<Head>,
): Promise<Verified<Head> | undefined> {
  let next = first ?? (await sealNextHead(deps, name, change))
  for (let attempt = 1; next !== undefined; attempt++) {
    try {
      await deps.catalogue.addHead(next, { unseen: true })
      return next
    } catch (error) {
      if (!isCatalogError(error) || !raced.has(error.code) || attempt === maxAttempts) throw error
    }
    next = await sealNextHead(deps, name, change)
  }
  return undefined
}

/** Signs the next head and shows it to nobody; undefined where nothing has to change. */
export async function sealNextHead(
  deps: NextHeadDeps,
  name: string,
  change: HeadChange,
): Promise<Verified<Head> | undefined> {
  const { network, publisher, catalogue } = deps
  const current = await catalogue.head(publisher, name)
  const proofs = await catalogue.contradictions(publisher, name)
  const others = [...proofs.flatMap(proof => proof.heads), ...(await catalogue.divergent(publisher, name))]
  const heads = [...(current === undefined ? [] : [current]), ...others]
  const union = unionOf(heads)
  const draft = change(union) ?? (others.length > 0 ? union : undefined)
  if (draft === undefined) return undefined
  // The known one first: where it has the highest number, the next one follows it.
  const previous = heads.reduce<Head | undefined>(
    (top, head) => (top === undefined || head.statement.sequence > top.statement.sequence ? head : top),
    undefined,
  )
  const signedAt = deps.now()
  return deps.seal<HeadStatement>({
    ...{ type: 'head', network, publisher, name },
    sequence: nextNumber(name, previous),
    ...(previous === undefined ? {} : { previous: previous.id }),
    ...draft,
    ...{ signedAt, expiresAt: signedAt + headLifetimeMs },
  })
}

function nextNumber(name: string, previous: Head | undefined): number {
  const sequence = (previous?.statement.sequence ?? 0) + 1
  if (Number.isSafeInteger(sequence)) return sequence
  throw new CatalogError(
    'too-large',
    `The head of ${name} cannot be numbered any higher. Whoever signed number ${sequence - 1} meant harm: revoke the certificate it was signed with.`,
  )
}

/** Everything that any of the heads lists. What they contradict each other about is revoked: neither can be the one. */
function unionOf(heads: readonly Head[]): HeadDraft {
  const versions = new Map<string, ListedVersion>()
  for (const { statement } of heads)
    for (const item of statement.versions) {
      const before = versions.get(item.version)
      versions.set(item.version, before === undefined ? item : merged(before, item))
    }
  const deprecated = heads.find(({ statement }) => statement.deprecated !== undefined)?.statement.deprecated
  return { versions: inOrder([...versions.values()]), ...(deprecated === undefined ? {} : { deprecated }) }
}

function merged(one: ListedVersion, other: ListedVersion): ListedVersion {
  const { version } = one
  const yanked = one.yanked ?? other.yanked
  const conflict = one.id === other.id ? undefined : 'Two releases were published under this version.'
  const revoked = one.revoked ?? other.revoked ?? conflict
  return {
    version,
    id: [one.id, other.id].sort()[0] as CidText,
    ...(yanked === undefined ? {} : { yanked }),
    ...(revoked === undefined ? {} : { revoked }),
  }
}

const inOrder = (versions: readonly ListedVersion[]): ListedVersion[] =>
  [...versions].sort((a, b) => compareVersions(a.version, b.version))

/** The draft with one more version. @throws CatalogError `too-large` */
export function listing(draft: HeadDraft, item: ListedVersion, name: string): HeadDraft {
  if (draft.versions.length >= recordLimits.maxVersions)
    throw new CatalogError(
      'too-large',
      `${name} has ${draft.versions.length} versions, the most that one head can list.`,
    )
  return { ...draft, versions: inOrder([...draft.versions, item]) }
}

export interface AskPeersDeps {
  readonly peers: () => readonly string[]
  readonly ask: (peer: string, question: { name: string }, options: CallOptions) => Promise<void>
  readonly log: Log
}

/** Enough to meet another machine of the publisher, or one that has heard of it. */
const maxPeersAsked = 8
const askMs = 2_000

/** Asks connected peers what they know of a name, before this node signs on top of what it knows itself. */
export async function askPeers(deps: AskPeersDeps, name: string, options: CallOptions): Promise<void> {
  const peers = [...deps.peers()].sort(() => Math.random() - 0.5).slice(0, maxPeersAsked)
  if (peers.length === 0) return
  const signal = withTimeout(options.signal, askMs)
  await Promise.all(
    peers.map(peer =>
      deps
        .ask(peer, { name }, { signal })
        .catch((error: unknown) =>
          deps.log.debug({ peer, name, error: String(error) }, 'a peer did not say'),
        ),
    ),
  )
  options.signal?.throwIfAborted()
}
