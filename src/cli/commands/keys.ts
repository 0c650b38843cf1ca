// `catalog keys`: what protects the node's keys, and other protection; carried by the row above.
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'

const protections = {
  none: 'not encrypted: run `catalog keys --encrypt`',
  'key-file': 'encrypted, opened by the unlock key',
  passphrase: 'encrypted with a passphrase',
}

export const run: Run = async ({ carriers, home, options, print }) => {
  const passphraseFile = options['passphraseFile'] as string | undefined
  const changePassphrase = options['changePassphrase'] as string | undefined
  const result = await carriers.keys({
    home,
    encrypt: options['encrypt'] === true,
    ...(passphraseFile === undefined ? {} : { passphraseFile }),
    ...(changePassphrase === undefined ? {} : { changePassphrase }),
  })
  print(result, () => {
    const facts = formatFacts(
      result.keys.flatMap(({ holds, name, protection }) => [
        [holds === 'node' ? 'Peer id' : 'Publisher', name] as const,
        ['', protections[protection]] as const,
      ]),
    )
    if (options['encrypt'] !== true && changePassphrase === undefined) return facts
    const done =
      result.changed === 0
        ? 'Nothing had to be changed.'
        : 'The key files were replaced. Older copies of them, in a backup for instance, open as before.'
    return `${facts}\n\n${done}`
  })
  return 0
}
