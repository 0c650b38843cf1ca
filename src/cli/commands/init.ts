// `catalog init`: keys and config; carried by the row above.
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'

export const run: Run = async ({ carriers, home, options, print }) => {
  const network = options['network'] as string | undefined
  const made = await carriers.init({ home, ...(network === undefined ? {} : { network }) })
  print(made, () =>
    [
      formatFacts([
        ['Home', made.home],
        ['Peer id', made.peerId],
        ['Publisher', made.publisher],
      ]),
      `\nStart the node with: catalog daemon --home ${made.home}`,
    ].join('\n'),
  )
  return 0
}
