// The environment of every payload: the manifest's and the caller's variables below what Catalog itself promises.
import type { RunRequest } from '../runtime.ts'
import { scratchPath } from './command.ts'

export function payloadEnvironment({ env, instance }: RunRequest): Record<string, string> {
  return {
    PATH: '/usr/bin:/bin',
    LANG: 'C.UTF-8',
    HOME: scratchPath,
    TMPDIR: '/tmp',
    ...env,
    CATALOG_SCRATCH: scratchPath,
    ...(instance === undefined
      ? {}
      : { CATALOG_INSTANCE: String(instance.index), CATALOG_INSTANCES: String(instance.count) }),
  }
}
