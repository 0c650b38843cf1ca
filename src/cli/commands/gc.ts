// `catalog gc`: frees what nothing needs any more.
import type { CollectResult } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { formatBytes, plural } from '../text.ts'

export const run: Run = async ({ client, signal, options, print }) => {
  const result = await client.collect({ dryRun: options['dryRun'] === true }, { signal })
  print(result, () => describe(result))
  return 0
}

function describe({
  dryRun,
  bytes,
  unreferenced,
  partial,
  results,
  leftovers,
  hints,
}: CollectResult): string {
  const kinds = [
    [
      unreferenced.contents,
      unreferenced.bytes,
      'content that no release names',
      'contents that no release names',
    ],
    [partial.contents, partial.bytes, 'abandoned fetch', 'abandoned fetches'],
    [results.contents, results.bytes, 'old result of an execution', 'old results of executions'],
    [leftovers.files, leftovers.bytes, 'file of interrupted work', 'files of interrupted work'],
  ] as const
  const lines = kinds
    .filter(([count]) => count > 0)
    .map(([count, size, one, many]) => `  ${plural(count, one, many)}, ${formatBytes(size)}`)
  if (hints > 0)
    lines.push(
      `  ${plural(hints, 'record of a shard', 'records of shards')} that ${hints === 1 ? 'is' : 'are'} gone`,
    )
  if (lines.length === 0) return 'There is no garbage.'
  return [`${dryRun ? 'Would free' : 'Freed'} ${formatBytes(bytes)}:`, ...lines].join('\n')
}
