// The command line's process: keeps compiled code between runs, and hands `init`, `daemon`, `keys` and `demo` to the files
// that carry them. Everything else that a command needs is loaded when it runs.
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

// Beside the code and not in a temporary directory that other users write to.
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/catalog', import.meta.url)))

const { runCommandLine } = await import('./program.ts')
const rootFiles = async () => (await import('../root-files.ts')).rootFiles
await runCommandLine(process.argv.slice(2), {
  init: async options => (await import('../init.ts')).initHome(options),
  join: async options => (await import('../join.ts')).joinByInvite(options),
  request: async options => (await import('../join-by-file.ts')).requestMembership(options),
  complete: async options => (await import('../join-by-file.ts')).joinByFile(options),
  daemon: async options => (await import('../daemon.ts')).runDaemon(options),
  keys: async options => (await import('../home-keys.ts')).homeKeys(options),
  rootFiles: {
    makeKey: async options => (await rootFiles()).makeKey(options),
    propose: async options => (await rootFiles()).propose(options),
    sign: async options => (await rootFiles()).sign(options),
    complete: async options => (await rootFiles()).complete(options),
    memberships: async options => (await rootFiles()).memberships(options),
  },
  demo: async options => (await import('./demo.ts')).runDemo(options),
})
