import { spawn } from 'node:child_process'
import { chmodSync, chownSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createHome, finishHome, homeOf, homePaths, openHome } from '../../src/config/home.ts'
import { lockHome } from '../../src/config/home-lock.ts'
import { temporaryDirectory } from '../temporary.ts'

const temporary = () => temporaryDirectory('catalog-home-')

async function initialised(): Promise<string> {
  const home = join(temporary(), 'home')
  await finishHome(await createHome(home))
  return home
}

describe('a home', () => {
  it('is --home, then CATALOG_HOME, then under the user’s directory', () => {
    expect(homeOf({ home: '/a' }, { CATALOG_HOME: '/b', HOME: '/c' })).toBe('/a')
    expect(homeOf({}, { CATALOG_HOME: '/b', HOME: '/c' })).toBe('/b')
    expect(homeOf({}, { CATALOG_HOME: '', HOME: '/c' })).toBe('/c/.local/share/catalog')
  })

  it('opens once it is initialised, with private directories', async () => {
    const home = await initialised()
    const paths = await openHome(home)
    for (const dir of [home, paths.keys, paths.store, paths.content])
      expect(statSync(dir).mode & 0o777).toBe(0o700)
  })

  it('that is not initialised is named with the command that makes it', async () => {
    const home = temporary()
    await expect(openHome(home)).rejects.toMatchObject({
      code: 'not-initialised',
      message: expect.stringContaining('catalog init'),
    })
    await expect(openHome(join(home, 'absent'))).rejects.toMatchObject({ code: 'not-initialised' })
  })

  it('that a first attempt left half made is completed by the next', async () => {
    const home = join(temporary(), 'home')
    await createHome(home)
    await expect(openHome(home)).rejects.toMatchObject({ code: 'not-initialised' })
    await finishHome(await createHome(home))
    await openHome(home)
    await expect(createHome(home)).rejects.toMatchObject({ code: 'already-initialised' })
  })

  it('is not made among other files', async () => {
    const home = temporary()
    writeFileSync(join(home, 'thesis.tex'), '')
    await expect(createHome(home)).rejects.toMatchObject({ code: 'output-exists' })
  })

  it('that stands open is closed', async () => {
    const home = await initialised()
    chmodSync(home, 0o755)
    await openHome(home)
    expect(statSync(home).mode & 0o777).toBe(0o700)
  })

  it('of another user is refused', async context => {
    if (process.getuid?.() !== 0) return context.skip('only root can give a directory away')
    const home = await initialised()
    chownSync(home, 12345, 12345)
    await expect(openHome(home)).rejects.toMatchObject({ code: 'home-not-owned' })
  })

  it('of a newer version, or with a damaged one, is refused', async () => {
    const home = await initialised()
    writeFileSync(homePaths(home).version, '99\n')
    await expect(openHome(home)).rejects.toMatchObject({ code: 'store-too-new' })
    writeFileSync(homePaths(home).version, 'x'.repeat(100_000))
    await expect(openHome(home)).rejects.toMatchObject({ code: 'not-initialised' })
  })

  it('whose socket path is too long is refused with a next step', async () => {
    const home = join(temporary(), 'x'.repeat(100))
    await expect(createHome(home)).rejects.toMatchObject({
      code: 'socket-path-too-long',
      message: expect.stringContaining('--home'),
    })
  })
})

describe('the lock of a home', () => {
  const program = `
    import { homePaths } from '${new URL('../../src/config/home.ts', import.meta.url).href}'
    import { lockHome } from '${new URL('../../src/config/home-lock.ts', import.meta.url).href}'
    try { await lockHome(homePaths(process.argv[1])); console.log('locked'); setInterval(() => {}, 1000) }
    catch (error) { console.log(error.code + ' ' + error.data?.pid) }`

  /** A process that tries to lock; `said` is what it said of it. */
  function contender(home: string) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, home], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const said = new Promise<string>(resolve =>
      child.stdout.once('data', data => resolve(String(data).trim())),
    )
    const killed = () => new Promise(resolve => child.once('close', resolve).kill('SIGKILL'))
    return { child, said, killed }
  }

  it('is held by one, who is named to the next', async () => {
    const home = await initialised()
    const lock = await lockHome(homePaths(home))
    const second = contender(home)
    expect(await second.said).toBe(`already-running ${process.pid}`)
    await lock.release()
    const third = contender(home)
    expect(await third.said).toBe('locked')
    await expect(lockHome(homePaths(home))).rejects.toMatchObject({
      code: 'already-running',
      data: { pid: third.child.pid },
    })
    await third.killed()
  })

  it('is taken over after kill -9 by exactly one of many', async () => {
    const home = await initialised()
    for (let round = 0; round < 3; round++) {
      const dead = contender(home)
      expect(await dead.said).toBe('locked')
      await dead.killed()
      const many = Array.from({ length: 6 }, () => contender(home))
      const said = await Promise.all(many.map(one => one.said))
      expect(said.filter(word => word === 'locked')).toHaveLength(1)
      await Promise.all(many.map(one => (one.child.exitCode === null ? one.killed() : undefined)))
    }
    expect(readdirSync(home).filter(name => name.startsWith('daemon.lock'))).toEqual(['daemon.lock'])
  })

  it('whose process id belongs to another process by now, or whose file is damaged, is stale', async () => {
    const home = await initialised()
    writeFileSync(homePaths(home).lock, JSON.stringify({ pid: process.pid, start: '1', boot: 'x' }))
    await (await lockHome(homePaths(home))).release()
    writeFileSync(homePaths(home).lock, '')
    await (await lockHome(homePaths(home))).release()
  })

  it('that cannot be read gives up in the end', async () => {
    const home = await initialised()
    symlinkSync('nowhere', homePaths(home).lock)
    await expect(lockHome(homePaths(home))).rejects.toMatchObject({ code: 'storage-failed' })
  })

  it('is not believed for a holder that crashed while taking over', async () => {
    const home = await initialised()
    const { lock } = homePaths(home)
    const dead = (pid: number) => JSON.stringify({ pid, start: '1', boot: 'x' })
    writeFileSync(lock, dead(999_999_1))
    writeFileSync(`${lock}.9999991-1-x`, dead(999_999_2))
    writeFileSync(`${lock}.9999992-1-x`, dead(999_999_3))
    await lockHome(homePaths(home))
    expect(readdirSync(home).filter(name => name.startsWith('daemon.lock'))).toEqual(['daemon.lock'])
  })
})
