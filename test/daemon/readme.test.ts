import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { temporaryDirectory } from '../temporary.ts'

const run = promisify(execFile)
const root = resolve(import.meta.dirname, '../..')

it('the quick start of the README does what it says, word by word', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const [, quickStart] = /## Quick start\n\n```sh\n([\s\S]*?)\n```/.exec(readme) ?? []
  const home = temporaryDirectory()
  // As a user in an empty directory, whose checkout is elsewhere; the daemon is ended with the shell.
  const script = `set -e\ntrap 'kill $(jobs -p)' EXIT\n${quickStart?.replace('$PWD/scripts', join(root, 'scripts'))}`
  const env = { PATH: process.env['PATH'], HOME: home }
  const { stdout } = await run('bash', ['-c', script], { cwd: home, env, timeout: 50_000 })
  expect(stdout.trim().split('\n').at(-1)).toBe('hello, Ada')
  expect(await readFile(join(home, 'copy/main.py'), 'utf8')).toMatch(/^import sys/)
})
