// `catalog remove`: forgets a release on this node.
import type { Run } from '../command.ts'
import { formatBytes } from '../text.ts'

export const run: Run = async ({ client, signal, operands, print }) => {
  const removed = await client.remove(operands[0] ?? '', { signal })
  print(removed, () =>
    removed.inUse === true
      ? `Removed ${removed.name} ${removed.version}; its bytes are in use, and go with the next collection of garbage.`
      : `Removed ${removed.name} ${removed.version}; ${formatBytes(removed.bytesFreed)} are free again.`,
  )
  return 0
}
