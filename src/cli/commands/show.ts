// `catalog show`: one release, and who provides it.
import type { VersionMarks } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatBytes, formatTime, plural } from '../text.ts'

const markedVersion = (version: string, marked: readonly VersionMarks[] = []): string => {
  const marks = marked.find(each => each.version === version)
  if (marks?.revoked !== undefined) return `${version} (revoked)`
  return marks?.yanked === undefined ? version : `${version} (yanked)`
}

export const run: Run = async ({ client, signal, operands, options, print }) => {
  const publisher = options['publisher'] as string | undefined
  const release = await client.show(operands[0] ?? '', {
    signal,
    ...(publisher === undefined ? {} : { publisher }),
  })
  print(release, () =>
    formatFacts([
      ['Name', release.name],
      ['Version', release.version],
      ['Description', release.description],
      ['Tags', release.tags.join(', ')],
      ['Type', release.type],
      ['Category', release.category],
      ['Size', `${formatBytes(release.size)} in ${plural(release.files, 'file')}`],
      ['Here', release.held],
      ['Id', release.id],
      ['Root', release.root],
      ['Manifest', release.manifestPath],
      ['Publisher', release.publisher],
      ['Signed', `${formatTime(release.signedAt)} with ${release.algorithms.join(' and ')}`],
      ['Versions', release.versions.map(version => markedVersion(version, release.marked)).join(', ')],
      ['Warnings', release.warnings ?? []],
      ['Providers', release.providers.map(({ peer, complete }) => (complete ? peer : `${peer} (in part)`))],
    ]),
  )
  return 0
}
