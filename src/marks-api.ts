// The calls of the control socket by which a publisher marks what it has published (yank, revoke, deprecate), what lists
// and searches show of it, and who is known to have contradicted themselves.
import { isSemanticVersion, parseRef } from './assets/name.ts'
import { signingKeyOf } from './assets/release.ts'
import { equalBytes } from './base/cbor.ts'
import { CatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import type {
  DeprecateRequest,
  EquivocationView,
  MarkResult,
  NodeApi,
  VersionMarks,
  YankRequest,
} from './control/api.ts'
import { type Head, type ResolveDeps, resolve } from './flows/resolve.ts'
import { deprecate, type Marked, markVersion, type YankDeps } from './flows/yank.ts'
import type { Catalogue } from './registry/catalogue.ts'

export interface MarksApiDeps {
  readonly catalogue: Pick<Catalogue, 'contradictions' | 'equivocations'>
  readonly flows: { readonly resolve: ResolveDeps; readonly yank: (name: string) => YankDeps }
}

export function createMarksApi(deps: MarksApiDeps): Pick<NodeApi, 'yank' | 'deprecate' | 'equivocations'> {
  return {
    yank: (request, options) => yankRef(deps, request, options),
    deprecate: (request, options) => deprecateName(deps, request, options),
    equivocations: () => equivocationsOf(deps),
  }
}

async function yankRef(
  deps: MarksApiDeps,
  { ref, reason = 'No reason was given.', undo = false, revoke = false }: YankRequest,
  options: CallOptions,
): Promise<MarkResult> {
  if (undo && revoke)
    throw new CatalogError('invalid-request', 'A revocation is for good: leave out "undo", or "revoke".')
  const { name, version, publisher } = await versionOf(deps, ref, options)
  const yanking = deps.flows.yank(name)
  // The same version of a name may be another publisher's, too.
  if (publisher !== undefined && publisher !== yanking.publisher)
    throw new CatalogError(
      'forbidden',
      `${ref} is ${name}@${version} by ${publisher}, and this node signs for ${yanking.publisher} alone: only its publisher can take it back.`,
      { ref, publisher },
    )
  const mark = undo
    ? ({ kind: 'not-yanked' } as const)
    : ({ kind: revoke ? 'revoked' : 'yanked', reason } as const)
  return resultOf(await markVersion(yanking, name, version, mark, options))
}

/** A range could mean another version tomorrow. */
async function versionOf(
  { flows }: MarksApiDeps,
  text: string,
  options: CallOptions,
): Promise<{ readonly name: string; readonly version: string; readonly publisher?: string }> {
  const ref = parseRef(text)
  if (ref.kind === 'cid')
    return (await resolve(flows.resolve, ref.cid, { ...options, purpose: 'look' })).statement
  if (isSemanticVersion(ref.range)) return { name: ref.name, version: ref.range }
  throw new CatalogError(
    'invalid-request',
    `${text} does not name one version. Write ${ref.name}@1.2.0, or a release id.`,
    { ref: text },
  )
}

async function deprecateName(
  { flows }: MarksApiDeps,
  { ref: text, message = 'It is not kept up any more.', undo = false }: DeprecateRequest,
  options: CallOptions,
): Promise<MarkResult> {
  const ref = parseRef(text)
  if (ref.kind === 'cid' || text.includes('@'))
    throw new CatalogError(
      'invalid-request',
      `A deprecation is of a whole package: write its name alone${ref.kind === 'name' ? `, ${ref.name}` : ''}. One version is taken back with "catalog yank".`,
      { ref: text },
    )
  return resultOf(await deprecate(flows.yank(ref.name), ref.name, undo ? undefined : message, options))
}

function resultOf({ head, changed }: Marked): MarkResult {
  const { name, sequence, deprecated } = head.statement
  const about = deprecated === undefined ? {} : { deprecated }
  return { name, sequence, changed, ...about, marked: markedVersions(head) }
}

/** The versions of a head that something is said of. */
export const markedVersions = ({ statement }: Head): VersionMarks[] =>
  statement.versions
    .filter(({ yanked, revoked }) => yanked !== undefined || revoked !== undefined)
    .map(({ id: _, ...marks }) => marks)

async function equivocationsOf({ catalogue }: MarksApiDeps): Promise<EquivocationView[]> {
  const views: EquivocationView[] = []
  for await (const { id, name, publisher, sequence, heads } of catalogue.equivocations()) {
    const [one, other] = heads
    const open = await catalogue.contradictions(publisher, name)
    views.push({
      ...{ name, publisher, sequence, proof: id },
      heads: [one.id, other.id],
      heldBack: open.some(proof => proof.id === id),
      sameKey: equalBytes(signingKeyOf(one), signingKeyOf(other)),
    })
  }
  return views
}
