// `catalog trust token create|list|revoke`.
import { CatalogError } from '../../base/errors.ts'
import type { TokenRequest, TokenView } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { secondsOf } from '../duration.ts'
import { formatFacts } from '../facts.ts'
import { formatTable } from '../table.ts'
import { formatTime } from '../text.ts'

export const create: Run = async ({ client, signal, options, print }) => {
  const created = await client.createToken(requestOf(options), { signal })
  print(created, () =>
    [created.token, '', 'This is the token: it is not shown again.', factsOf(created)].join('\n'),
  )
  return 0
}

export const list: Run = async ({ client, signal, print }) => {
  const tokens = await client.tokens({ signal })
  print({ tokens }, () =>
    tokens.length === 0
      ? 'No tokens. `catalog trust token create --label NAME` makes one.'
      : formatTable(
          [
            { title: 'ID' },
            { title: 'LABEL', flexible: true },
            { title: 'CAN' },
            { title: 'NAMES' },
            { title: 'EXPIRES' },
          ],
          tokens.map(({ id, label, can, names, expired, expiresAt }) => [
            id,
            label,
            can.join(','),
            names.join(','),
            expired ? 'expired' : formatTime(expiresAt),
          ]),
        ),
  )
  return 0
}

export const revoke: Run = async ({ client, signal, operands, print }) => {
  const revoked = await client.revokeToken(operands[0] ?? '', { signal })
  print(revoked, () => `Revoked the token ${revoked.id} (${revoked.label}).`)
  return 0
}

const factsOf = ({ id, label, can, names, expiresAt }: TokenView): string =>
  formatFacts([
    ['Id', id],
    ['Label', label],
    ['Can', can.join(', ')],
    ['Names', names.join(', ')],
    ['Expires', formatTime(expiresAt)],
  ])

function requestOf(options: Readonly<Record<string, unknown>>): TokenRequest {
  const label = options['label'] as string | undefined
  if (label === undefined)
    throw new CatalogError(
      'invalid-request',
      'The token needs a label: --label NAME says whom it is for, when it is listed and revoked.',
    )
  const names = options['names'] as string | undefined
  const expires = options['expires'] as string | undefined
  return {
    label,
    // The daemon says which there are.
    can: listOf((options['can'] as string | undefined) ?? 'fetch') as TokenRequest['can'],
    ...(names === undefined ? {} : { names: listOf(names) }),
    ...(expires === undefined ? {} : { expiresSeconds: secondsOf(expires, '--expires') }),
  }
}

const listOf = (text: string): string[] => text.split(',').map(part => part.trim())
