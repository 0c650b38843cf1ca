// `catalog yank`: takes a version of this publisher's out of every range, or back in, or away for good.
import type { MarkResult, YankRequest } from '../../control/api.ts'
import type { Run } from '../command.ts'

export const run: Run = async ({ client, signal, operands, options, print }) => {
  const reason = options['reason'] as string | undefined
  const request: YankRequest = {
    ref: operands[0] ?? '',
    ...(reason === undefined ? {} : { reason }),
    ...(options['undo'] === true ? { undo: true } : {}),
    ...(options['revoke'] === true ? { revoke: true } : {}),
  }
  const result = await client.yank(request, { signal })
  print(result, () => describeMarks(result))
  return 0
}

/** What the newest head of the name says of its versions. */
export function describeMarks({ name, sequence, changed, deprecated, marked }: MarkResult): string {
  const versions = marked.flatMap(({ version, yanked, revoked }) => [
    ...(yanked === undefined ? [] : [`  ${version} is yanked: ${yanked}`]),
    ...(revoked === undefined ? [] : [`  ${version} is revoked: ${revoked}`]),
  ])
  return [
    changed
      ? `Head ${sequence} of ${name} is signed and on its way to every node.`
      : `Head ${sequence} of ${name} says so already.`,
    ...(deprecated === undefined ? [] : [`  deprecated: ${deprecated}`]),
    ...versions,
    ...(deprecated === undefined && versions.length === 0 ? ['  Nothing is yanked or deprecated.'] : []),
  ].join('\n')
}
