// `catalog cancel`: ends an execution.
import type { Run } from '../command.ts'

export const run: Run = async ({ client, signal, operands, print }) => {
  const execution = await client.cancel(operands[0] ?? '', { signal })
  print(execution, () => `The execution ${execution.id} is ${execution.state}.`)
  return 0
}
