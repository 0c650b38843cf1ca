// The command line's process: keeps compiled code between runs, and hands `init`, `daemon`, `keys` and `demo` to the files
// that carry them. Everything else that a command needs is loaded when it runs.
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

// Beside the code and not in a temporary directory that other users write to.
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/catalog', import.meta.url)))

const { runCommandLine } = await import('./program.ts')
await runCommandLine(process.argv.slice(2), {
  init: async options => (await import('../init.ts')).initHome(options),
  daemon: async options => (await import('../daemon.ts')).runDaemon(options),
  keys: async options => (await import('../home-keys.ts')).homeKeys(options),
  demo: async options => (await import('./demo.ts')).runDemo(options),
})
