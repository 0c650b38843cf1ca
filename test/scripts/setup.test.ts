// scripts/catalog in small checkouts of its own: real npm, but only Node.js itself to install, and a command line
// of one line.
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../temporary.ts'

const root = new URL('../..', import.meta.url).pathname

function checkout(): string {
  const dir = temporaryDirectory('catalog checkout-')
  for (const script of ['catalog', 'setup.sh'])
    cpSync(join(root, 'scripts', script), join(dir, 'scripts', script))
  cpSync(join(root, '.npmrc'), join(dir, '.npmrc'))
  mkdirSync(join(dir, 'src/cli'), { recursive: true })
  writeFileSync(
    join(dir, 'src/cli/main.ts'),
    'console.log(process.version.slice(0, 4), process.pid, process.argv.slice(2).join("|"))',
  )
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(
    join(dir, 'package.json'),
    JSON.stringify({ name: 'small', version: '1.0.0', type: 'module', optionalDependencies }),
  )
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const kept = Object.entries(lock.packages).filter(([path]) =>
    /^node_modules\/node-(linux|darwin)-/.test(path),
  )
  const packages = {
    '': { name: 'small', version: '1.0.0', optionalDependencies },
    ...Object.fromEntries(kept),
  }
  writeFileSync(
    join(dir, 'package-lock.json'),
    JSON.stringify({ ...lock, name: 'small', version: '1.0.0', packages }),
  )
  return dir
}

function run(program: string, args: readonly string[], env: Record<string, string> = {}) {
  // Neither this process's Node.js on the path nor what npm set for the test runner.
  const path = (process.env['PATH'] ?? '')
    .split(':')
    .filter(entry => !entry.includes('node_modules'))
    .join(':')
  const child = spawn(program, args, {
    cwd: '/',
    env: { PATH: path, HOME: process.env['HOME'] ?? '', npm_config_prefer_offline: 'true', ...env },
  })
  const [stdout, stderr]: [string[], string[]] = [[], []]
  child.stdout.on('data', chunk => stdout.push(String(chunk)))
  child.stderr.on('data', chunk => stderr.push(String(chunk)))
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string; pid: number | undefined }>(
    resolve =>
      child.once('close', code =>
        resolve({ code, stdout: stdout.join(''), stderr: stderr.join(''), pid: child.pid }),
      ),
  )
  return { child, ended }
}

describe('scripts/catalog', () => {
  it('sets up a fresh clone once for two at a time, and becomes the command', async () => {
    const dir = checkout()
    const lockfile = readFileSync(join(dir, 'package-lock.json'), 'utf8')
    const program = join(dir, 'scripts/catalog')
    const both = await Promise.all([
      run(program, ['status']).ended,
      run(program, ['list', 'a b', '--']).ended,
    ])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    expect(both[0].stdout).toBe(`v24. ${both[0].pid} status\n`)
    expect(both[1].stdout).toBe(`v24. ${both[1].pid} list|a b|--\n`)
    const said = both.map(({ stderr }) => stderr).join('')
    expect(said.match(/installing the libraries/g)).toHaveLength(1)
    expect(readFileSync(join(dir, 'package-lock.json'), 'utf8')).toBe(lockfile)

    // The second time it says nothing, through links and from elsewhere too.
    symlinkSync(program, join(dir, 'link'))
    const link = temporaryDirectory('catalog-link-')
    symlinkSync(join(dir, 'link'), join(link, 'catalog'))
    expect(await run(join(link, 'catalog'), ['x']).ended).toMatchObject({ code: 0, stderr: '' })

    // A lockfile that changed, or libraries that went away, are set up again.
    writeFileSync(join(dir, 'package-lock.json'), `${lockfile}\n`)
    expect((await run(program, ['x']).ended).stderr).toContain('installing')
    rmSync(join(dir, 'node_modules/.bin'), { recursive: true })
    expect((await run(program, ['x']).ended).stdout).toMatch(/^v24/)
  })

  it('installs nothing where that is forbidden, and says what is missing', async () => {
    const dir = checkout()
    const { code, stdout, stderr } = await run(join(dir, 'scripts/catalog'), ['x'], {
      CATALOG_NO_INSTALL: '1',
    }).ended
    expect([code, stdout]).toEqual([10, ''])
    expect(stderr).toContain('npm ci')
    expect(existsSync(join(dir, 'node_modules'))).toBe(false)
  })

  it('completes a set-up that was killed, with and without flock', async () => {
    for (const flock of [true, false]) {
      const dir = checkout()
      const program = join(dir, 'scripts/catalog')
      const env: Record<string, string> = flock ? {} : { PATH: pathWithout('flock') }
      const first = run(program, ['x'], env)
      await new Promise(resolve => first.child.stderr.once('data', resolve))
      first.child.kill('SIGKILL')
      await first.ended
      const [one, two] = await Promise.all([run(program, ['x'], env).ended, run(program, ['x'], env).ended])
      expect([one.code, two.code]).toEqual([0, 0])
      expect(existsSync(join(dir, '.setup-lock'))).toBe(false)
    }
  })
})

/** A directory of links to every program on the path but one. */
function pathWithout(missing: string): string {
  const dir = temporaryDirectory('catalog-path-')
  const needed = [
    'sh',
    'readlink',
    'dirname',
    'cmp',
    'cp',
    'mv',
    'rm',
    'mkdir',
    'cat',
    'sleep',
    'uname',
    'npm',
    'node',
    'env',
    'id',
  ]
  const places = (process.env['PATH'] ?? '').split(':').filter(entry => !entry.includes('node_modules'))
  for (const name of needed.filter(name => name !== missing)) {
    const place = places.find(entry => existsSync(join(entry, name)))
    if (place !== undefined) symlinkSync(join(place, name), join(dir, name))
  }
  return dir
}
