// `catalog validate`: checks a package here, without a home or a daemon.
import { resolve } from 'node:path'
import { scanPackage } from '../../assets/package-tree.ts'
import type { Run } from '../command.ts'
import { formatProblem, manifestFile } from '../error-text.ts'

export const run: Run = async ({ operands, signal, print }) => {
  const path = operands[0] ?? '.'
  const { manifest, warnings } = await scanPackage(resolve(path), { signal })
  const { name, version } = manifest.metadata
  const file = await manifestFile(path)
  const listed = warnings.length === 0 ? {} : { warnings }
  print({ valid: true, name, version, ...listed }, () =>
    [
      ...warnings.map(warning => `warning: ${formatProblem(file, warning)}`),
      `${file} is valid: ${name} ${version}`,
    ].join('\n'),
  )
  return 0
}
