// `catalog check`: looks for damage, and has it repaired; the exit code says whether any is left.
import { errorTable } from '../../base/errors.ts'
import type { CheckResult, DamagedContent } from '../../control/api.ts'
import type { Run } from '../command.ts'
import { showProgress } from '../progress.ts'
import { formatBytes, harmlessLine, plural } from '../text.ts'

export const run: Run = async ({ client, signal, operands, options, json, print }) => {
  const repair = options['repair'] === true
  const { onProgress, stop } = showProgress({ json })
  const refs = operands.length === 0 ? {} : { refs: operands }
  const result = await client.check({ ...refs, repair }, { signal, onProgress }).finally(stop)
  print(result, () => describe(result, repair))
  return result.damaged.every(({ repaired }) => repaired) ? 0 : errorTable['corrupt-content'].exit
}

function describe({ contents, bytes, damaged }: CheckResult, repair: boolean): string {
  const head = `Checked ${plural(contents, 'content')}, ${formatBytes(bytes)}: `
  if (damaged.length === 0) return `${head}all of it is whole.`
  const left = damaged.filter(({ repaired }) => !repaired).length
  return [
    `${head}${damaged.length} ${damaged.length === 1 ? 'is' : 'are'} damaged${left === 0 ? ', and repaired' : ''}.`,
    ...damaged.map(describeDamage),
    ...(left > 0 && !repair ? ['`catalog check --repair` fetches damaged shards from other nodes.'] : []),
    ...(left > 0 ? ['Check the disk: what is stored does not change by itself.'] : []),
  ].join('\n')
}

function describeDamage({ root, releases, shards, repaired, error }: DamagedContent): string {
  const names = releases.map(({ name, version }) => `${name} ${version}`).join(', ')
  const what = shards.length === 0 ? 'its index' : plural(shards.length, 'shard')
  const outcome = repaired
    ? 'repaired'
    : error === undefined
      ? 'damaged'
      : `not repaired: ${error['message']}`
  return `  ${harmlessLine(`${names === '' ? root : names}: ${what} ${outcome}`)}`
}
