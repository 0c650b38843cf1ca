// `catalog publish`: hands the package's path to the daemon, or the package itself.
import { resolve } from 'node:path'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { showProgress } from '../progress.ts'
import { formatBytes, formatDuration, harmlessLine, plural } from '../text.ts'

export const run: Run = async ({ client, streams, signal, operands, options, json, print }) => {
  const { onProgress, stop } = showProgress({ json })
  const path = resolve(operands[0] ?? '.')
  const publishing = streams
    ? (await import('../streams.ts')).publishPackage(client, path, replicasOf(options), {
        signal,
        onProgress,
      })
    : client.publish({ path, ...replicasOf(options) }, { signal, onProgress })
  const result = await publishing.finally(stop)
  if (!json)
    for (const warning of result.warnings) process.stderr.write(`warning: ${harmlessLine(warning)}\n`)
  print(result, () => {
    const { name, version, size, files, created, milliseconds } = result
    const done = created ? 'Published' : 'Published already, with the same content:'
    return [
      `${done} ${name} ${version}: ${formatBytes(size)} in ${plural(files, 'file')}, ${formatDuration(milliseconds)}`,
      formatFacts([
        ['Id', result.id],
        ['Root', result.root],
      ]),
    ].join('\n')
  })
  return 0
}

const replicasOf = ({ replicas }: Readonly<Record<string, unknown>>) =>
  replicas === undefined ? {} : { replicas: Number(replicas) }
