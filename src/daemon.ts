// The daemon's process: takes the home, starts the node and the control socket, says ready in one line, and stops
// within five seconds of SIGTERM or SIGINT. A failure inside one request or stream never ends it.
import pino from 'pino'
import type { Log } from './base/log.ts'
import { type ConfigFlags, loadConfig } from './config/config.ts'
import { openHome } from './config/home.ts'
import { lockHome } from './config/home-lock.ts'
import { findPassphrase } from './config/passphrase.ts'
import { createControlServer } from './control/server.ts'
import { openHomeKeys } from './home-keys.ts'
import { loadHomeCertificates } from './network-trust.ts'
import { finishRotation } from './next-publisher-keys.ts'
import { catalogVersion, createNode } from './node.ts'

/** After SIGTERM: whatever has not stopped by then is left to the kernel. */
const stopWithinMs = 4_500

/** Resolves once the daemon has stopped; the process exits with the code it resolves to. */
export async function runDaemon({
  home,
  flags,
}: {
  readonly home: string
  readonly flags: ConfigFlags
}): Promise<number> {
  const paths = await openHome(home)
  const config = loadConfig({ home: paths.home, env: process.env, flags })
  const log = createLog(config.log.level)
  const lock = await lockHome(paths)
  try {
    const sources = { flag: flags.passphraseFile, env: process.env, configured: config.keys.passphraseFile }
    const passphrase = await findPassphrase({ ...sources, home: paths.home })
    await finishRotation(paths, log)
    const keys = await openHomeKeys(paths, passphrase, log)
    const node = await createNode(paths, config, log, keys, await loadHomeCertificates(paths.trust))
    const control = createControlServer(
      { api: node.api, tokens: node.tokens, log },
      {
        socketPath: paths.socket,
        uploadDirectory: paths.uploads,
        shared: config.control.shared,
        version: catalogVersion,
      },
    )
    const stopped = untilStopSignal(log)
    try {
      await node.start()
      await control.start()
      const shared = config.control.shared
      const sockets = { socket: paths.socket, ...(shared === undefined ? {} : { sharedSocket: shared.path }) }
      const ready = { ready: true, peerId: node.peer, addresses: node.addresses(), ...sockets }
      process.stdout.write(`${JSON.stringify(ready)}\n`)
      await stopped
    } finally {
      const giveUp = setTimeout(() => process.exit(0), stopWithinMs).unref()
      await control.stop()
      await node.stop()
      clearTimeout(giveUp)
    }
  } finally {
    await lock.release()
  }
  return 0
}

function createLog(level: string): Log {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  )
}

function untilStopSignal(log: Log): Promise<void> {
  // A transport that fails outside of any call must not take the node down; it is told, and the node goes on.
  process.on('uncaughtException', error => log.error({ error: error.stack }, 'an error escaped its handler'))
  process.on('unhandledRejection', error =>
    log.error({ error: String(error) }, 'a rejection escaped its handler'),
  )
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
      process.once(signal, () => {
        log.info({ signal }, 'stopping')
        resolve()
      })
  })
}
