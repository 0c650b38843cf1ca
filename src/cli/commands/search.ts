// `catalog search`: ranked, best first.
import type { Run } from '../command.ts'
import { formatTable } from '../table.ts'
import { releaseColumns, releaseRow } from './list.ts'

export const run: Run = async ({ client, signal, operands, options, print }) => {
  const filters = Object.fromEntries(
    ['tag', 'type', 'category', 'limit']
      .filter(key => options[key] !== undefined)
      .map(key => [key, options[key]]),
  )
  const results = await client.search({ query: operands.join(' '), ...filters }, { signal })
  print({ results }, () =>
    results.length === 0
      ? 'Nothing found among the releases known here.'
      : formatTable(releaseColumns, results.map(releaseRow)),
  )
  return 0
}
