// `catalog pin`: keeps a release on this node, ends that, or shows what is kept so.
import { CatalogError } from '../../base/errors.ts'
import type { Invocation, Run } from '../command.ts'
import { showProgress } from '../progress.ts'
import { formatTable } from '../table.ts'
import { releaseColumns, releaseRow } from './list.ts'

export const run: Run = async invocation => {
  const { operands, options } = invocation
  const [ref] = operands
  const list = options['list'] === true
  if ((ref === undefined) !== list || (list && options['remove'] === true))
    throw new CatalogError(
      'invalid-request',
      'Name the release to pin or, with --remove, to unpin; or ask for --list alone.',
    )
  return ref === undefined ? listPinned(invocation) : pin(invocation, ref)
}

async function listPinned({ client, signal, print }: Invocation): Promise<number> {
  const releases = (await client.releases(false, { signal })).filter(({ pinned }) => pinned)
  print({ releases }, () =>
    releases.length === 0 ? 'Nothing is pinned.' : formatTable(releaseColumns, releases.map(releaseRow)),
  )
  return 0
}

async function pin({ client, signal, options, json, print }: Invocation, ref: string): Promise<number> {
  const remove = options['remove'] === true
  const publisher = options['publisher'] as string | undefined
  const { onProgress, stop } = showProgress({ json })
  const allowStale = options['allowStale'] === true ? { allowStale: true } : {}
  const request = { ref, remove, ...(publisher === undefined ? {} : { publisher }), ...allowStale }
  const result = await client.pin(request, { signal, onProgress }).finally(stop)
  print(result, () =>
    result.pinned
      ? `Pinned ${result.name} ${result.version}: it stays until it is unpinned or removed.`
      : `Unpinned ${result.name} ${result.version}: it goes when its space is needed.`,
  )
  return 0
}
