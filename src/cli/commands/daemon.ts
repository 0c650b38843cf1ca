// `catalog daemon`: the node itself; carried by the row above, which prints the ready line and ends on signals.
import type { ConfigFlags } from '../../config/config.ts'
import type { Run } from '../command.ts'

export const run: Run = async ({ carriers, home, options }) => {
  const flags: ConfigFlags = {
    ...given('listen', options['listen'] as string[] | undefined),
    ...given('bootstrap', options['bootstrap'] as string[] | undefined),
    ...given('offerExecution', options['offerExecution'] as boolean | undefined),
    ...given('mdns', options['mdns'] as boolean | undefined),
    ...given('passphraseFile', options['passphraseFile'] as string | undefined),
    ...given('logLevel', options['logLevel'] as string | undefined),
  }
  return carriers.daemon({ home, flags })
}

const given = <K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } =>
  (value === undefined ? {} : { [key]: value }) as { [P in K]?: V }
