// `catalog list`: the releases that the node knows.
import type { ReleaseView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { type Column, formatTable } from '../table.ts'
import { formatBytes } from '../text.ts'

export const run: Run = async ({ client, signal, options, print }) => {
  const held = options['held'] === true
  const releases = await client.releases(held, { signal })
  print({ releases }, () =>
    releases.length === 0
      ? 'No releases. `catalog publish PATH` publishes one, `catalog fetch REF` fetches one.'
      : formatTable(releaseColumns, releases.map(releaseRow)),
  )
  return 0
}

export const releaseColumns: readonly Column[] = [
  { title: 'NAME', flexible: true },
  { title: 'VERSION' },
  { title: 'SIZE', right: true },
  { title: 'FILES', right: true },
  { title: 'HERE' },
  { title: 'DESCRIPTION', flexible: true },
]

export const releaseRow = (release: ReleaseView): string[] => [
  release.name,
  release.version,
  formatBytes(release.size),
  String(release.files),
  release.pinned ? `${release.held}, pinned` : release.held,
  `${marksOf(release)}${release.description}`,
]

/** What speaks against taking it, before what it is. */
function marksOf({ yanked, revoked, deprecated, stale, unlisted, heldBack }: ReleaseView): string {
  const marks = [
    ...(revoked === undefined ? [] : ['revoked']),
    ...(yanked === undefined ? [] : ['yanked']),
    ...(heldBack === undefined ? [] : ['held back']),
    ...(unlisted === undefined ? [] : ['not listed']),
    ...(deprecated === undefined ? [] : ['deprecated']),
    ...(stale === undefined ? [] : ['stale']),
  ]
  return marks.length === 0 ? '' : `[${marks.join(', ')}] `
}
