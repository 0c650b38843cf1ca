// The command line as a shell runs it, each command a process of its own, in a home whose socket is that of a node in
// memory.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { silentLog } from '../../src/base/log.ts'
import { type ControlServerOptions, createControlServer } from '../../src/control/server.ts'
import { type MemoryNode, memoryTokens } from '../control/memory-node.ts'
import { temporaryDirectory } from '../temporary.ts'
import { type Outcome, outcomeOf, program } from './outcome.ts'

/** Where a command runs, and which variables it has beside PATH. */
export interface Surroundings {
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

function startCatalog(args: readonly string[], { cwd, env }: Surroundings) {
  const variables = { PATH: process.env['PATH'] ?? '', ...env }
  const child = spawn(process.execPath, [program, ...args], { cwd, env: variables })
  return { child, ended: outcomeOf(child) }
}

export function runCatalog(
  args: readonly string[],
  surroundings: Surroundings,
  input?: string | Buffer,
): Promise<Outcome> {
  const { child, ended } = startCatalog(args, surroundings)
  child.stdin.end(input)
  return ended
}

export type Shell = Awaited<ReturnType<typeof openShell>>

export async function openShell(node: MemoryNode, shared?: ControlServerOptions['shared']) {
  const home = temporaryDirectory('catalog-cli-')
  const server = createControlServer(
    { api: node, tokens: memoryTokens(), log: silentLog },
    { socketPath: join(home, 'control.sock'), uploadDirectory: join(home, 'uploads'), shared },
  )
  await server.start()
  const env = { HOME: home, CATALOG_HOME: home, TZ: 'UTC' }
  return {
    home,
    /** Its standard input stays open. */
    start: (args: readonly string[], more: Surroundings['env'] = {}) =>
      startCatalog(args, { cwd: home, env: { ...env, ...more } }),
    run: (args: readonly string[], input?: string | Buffer) => runCatalog(args, { cwd: home, env }, input),
    close: () => server.stop(),
  }
}
