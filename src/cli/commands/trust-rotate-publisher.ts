// `catalog trust rotate publisher`.
import { CatalogError } from '../../base/errors.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatTime, plural } from '../text.ts'

export const run: Run = async ({ client, signal, options, print }) => {
  const revokeOld = options['revokeOld'] === true
  const reason = options['reason'] as string | undefined
  if (reason !== undefined && !revokeOld)
    throw new CatalogError(
      'invalid-request',
      '--reason says why the old certificate ends: it needs --revoke-old.',
    )
  const done = await client.rotateKeys(
    { what: 'publisher', ...(revokeOld ? { revokeOld } : {}), ...(reason === undefined ? {} : { reason }) },
    { signal },
  )
  const { previous, warnings } = done
  print(done, () =>
    [
      `The publisher has new keys; ${plural(done.heads, 'head')} signed anew.`,
      formatFacts([
        ['Publisher', done.publisher],
        ['Keys', done.keys],
        ['Certificate', done.certificate],
        ['Until', formatTime(done.notAfter)],
        ['Certified by', done.by],
        [
          'Before',
          `${previous.keys}, ${previous.revoked ? 'revoked' : 'whose certificate holds until it ends'}`,
        ],
      ]),
      ...warnings.map(warning => `Warning: ${warning}`),
    ].join('\n'),
  )
  return 0
}
