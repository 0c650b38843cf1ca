// Emits the package's JavaScript and types into dist/, for packaging. From a checkout the command line runs the
// sources: with compiled code kept between runs they start as fast, and can never be stale.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
rmSync(join(root, 'dist'), { recursive: true, force: true })
const options = [
  '--noEmit',
  'false',
  '--outDir',
  'dist',
  '--rootDir',
  '.',
  '--declaration',
  '--incremental',
  'false',
]
const { status } = spawnSync(join(root, 'node_modules/.bin/tsc'), options, { cwd: root, stdio: 'inherit' })
process.exitCode = status ?? 1
