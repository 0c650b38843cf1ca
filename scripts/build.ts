// Emits the package's JavaScript and types into dist/, for packaging. From a checkout the command line runs the
// sources: with compiled code kept between runs they start as fast, and can never be stale.
import { spawnSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
const compiler = join(root, 'node_modules/.bin/tsc')
const { status } = spawnSync(compiler, ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
// What is no source goes along: the packages of the demo.
cpSync(join(root, 'src'), dist, { recursive: true, filter: path => !path.endsWith('.ts') })
process.exitCode = status ?? 1
