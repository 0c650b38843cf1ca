// `catalog drain`: hands over what is kept here. Its exit code tells whether the node can go without loss.
import { errorTable } from '../../base/errors.ts'
import type { Run } from '../command.ts'
import { showProgress } from '../progress.ts'
import { plural } from '../text.ts'
import { summary } from './replicas.ts'

export const run: Run = async ({ client, signal, options, json, print }) => {
  const undo = options['undo'] === true
  const { onProgress, stop } = showProgress({ json })
  const result = await client.drain(undo ? { undo } : {}, { signal, onProgress }).finally(stop)
  const { handedOver, left } = result
  print(result, () => {
    if (undo) return 'This node takes copies again.'
    const done = `Handed over ${plural(handedOver, 'package')}; this node takes no more copies.`
    if (left.length === 0) return done
    return [
      done,
      `For ${plural(left.length, 'package')} there are too few other nodes; they are still kept here:`,
      ...left.map(view => `  ${view.name} ${view.version}: ${summary(view)}`),
    ].join('\n')
  })
  return left.length === 0 ? 0 : errorTable['no-node-fits'].exit
}
