// `catalog deprecate`: tells whoever takes a package of this publisher's what to know, or takes that back.
import type { Run } from '../command.ts'
import { describeMarks } from './yank.ts'

export const run: Run = async ({ client, signal, operands, options, print }) => {
  const message = options['message'] as string | undefined
  const result = await client.deprecate(
    {
      ref: operands[0] ?? '',
      ...(message === undefined ? {} : { message }),
      ...(options['undo'] === true ? { undo: true } : {}),
    },
    { signal },
  )
  print(result, () => describeMarks(result))
  return 0
}
