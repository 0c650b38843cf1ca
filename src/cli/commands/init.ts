// `catalog init`: keys and config; carried by the row above.
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'

export const run: Run = async ({ carriers, home, options, print }) => {
  const network = options['network'] as string | undefined
  const passphraseFile = options['passphraseFile'] as string | undefined
  const made = await carriers.init({
    home,
    ...(network === undefined ? {} : { network }),
    ...(passphraseFile === undefined ? {} : { passphraseFile }),
  })
  const unlock = passphraseFile === undefined ? '' : ` --passphrase-file ${passphraseFile}`
  print(made, () =>
    [
      formatFacts([
        ['Home', made.home],
        ['Peer id', made.peerId],
        ['Publisher', made.publisher],
        ['Unlock key', made.unlockKey],
      ]),
      `\nStart the node with: catalog daemon --home ${made.home}${unlock}`,
    ].join('\n'),
  )
  return 0
}
