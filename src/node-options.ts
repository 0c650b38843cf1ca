// What the settings mean for the parts of a node, and what its status says of some of them. A part of the composition root.
import type { Config } from './config/config.ts'
import type { HomePaths } from './config/home.ts'
import type { Status } from './control/api.ts'
import { defaultExecutorOptions } from './execution/executor.ts'
import type { LimitedHost } from './network/limited-host.ts'
import type { NetworkTrust } from './network-trust.ts'

export function storeOptions({ content }: HomePaths, { storage }: Config) {
  const { maxBytes, reserveBytes } = storage
  return { directory: content, reserveBytes, ...(maxBytes === undefined ? {} : { maxBytes }) }
}

export function replicationOptions({ replication }: Config) {
  const { factor, accept, maxBytes, checkEverySeconds, verifyEverySeconds } = replication
  return {
    ...{ factor, accept, maxBytes },
    ...{ graceMs: replication.graceSeconds * 1000, settleMs: replication.settleSeconds * 1000 },
    ...{ checkEveryMs: checkEverySeconds * 1000, verifyEveryMs: verifyEverySeconds * 1000 },
  }
}

export function executorOptions({ execution }: Config) {
  const defaults = defaultExecutorOptions()
  const { cpuCores, memoryMb, storageMb, runSeconds, processes, outputMb } = execution.ceiling
  return {
    ...defaults,
    ceiling: {
      ...defaults.ceiling,
      ...Object.fromEntries(
        Object.entries({ cpuCores, memoryMb, storageMb }).filter(([, value]) => value !== undefined),
      ),
      runSeconds,
      processes,
      outputBytes: outputMb * 1024 * 1024,
    },
    queueLength: execution.maxQueued,
  }
}

export function membershipStatus(trust: NetworkTrust): Status['membership'] {
  const root = trust.chain.network
  const standing = trust.standing()
  const clock = trust.clocks.trouble()
  return {
    ...{ root, state: standing.state },
    ...(standing.state === 'current' ? {} : { why: standing.why }),
    ...(clock === undefined ? {} : { clock }),
  }
}

export function bandwidthStatus(
  { bandwidth }: Config,
  limited: LimitedHost | undefined,
): Status['bandwidth'] {
  const { up, down, perPeerUp, perPeerDown } = bandwidth
  const traffic = limited?.traffic()
  return {
    up: { limit: up, perPeerLimit: perPeerUp, ...traffic?.up },
    down: { limit: down, perPeerLimit: perPeerDown, ...traffic?.down },
  }
}
