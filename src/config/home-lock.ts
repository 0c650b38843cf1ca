// One daemon per home: a lock file that names its holder and outlives no kill -9. No kernel lock is to be had
// from Node without a native module, so a stale lock is taken over by a claim that only one process can make.
//
// `daemon.lock` names a process (pid, start time, boot). Where that process is dead, its successor is whoever
// links `daemon.lock.<dead process>` first; a successor that died in between is succeeded in the same way.
// The living end of that chain moves its own name to `daemon.lock`, and only then removes the claims: who claims
// late, on a chain that is gone, finds another name in `daemon.lock` and starts again. Processes that cannot see
// each other's pids (containers that share a home) are kept apart by LevelDB's own lock on the store.
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { CatalogError } from '../base/errors.ts'
import type { HomePaths } from './home.ts'

export interface HomeLock {
  release(): Promise<void>
}

interface Holder {
  readonly pid: number
  /** In clock ticks since boot (proc(5)): a process id used again belongs to another process. */
  readonly start: string
  readonly boot: string
}

/** Each other attempt is somebody who came first: so many do not start at once. */
const maxAttempts = 200

/** @throws CatalogError `already-running`, with the `pid` of the daemon that has the home */
export async function lockHome({ home, lock }: HomePaths): Promise<HomeLock> {
  const self = await holderOf(process.pid)
  const own = `${lock}.new-${process.pid}-${self.start}`
  await writeFile(own, JSON.stringify(self), { mode: 0o600 })
  try {
    for (let attempt = 1; ; attempt++) {
      const living = await tryLock(lock, own, self)
      if (living === 'again' && attempt < maxAttempts) continue
      if (living === 'again')
        throw new CatalogError(
          'storage-failed',
          `Cannot lock the home ${home}: the file ${lock} can neither be made nor read. Remove it if no daemon runs.`,
          { lock },
        )
      if (living === undefined) break
      throw new CatalogError(
        'already-running',
        `A daemon is running on ${home} already (process ${living.pid}). Use it, or stop it first.`,
        { home, pid: living.pid },
      )
    }
  } finally {
    await rm(own, { force: true })
  }
  return {
    release: async () => {
      if (same(await readHolder(lock), self)) await rm(lock, { force: true })
    },
  }
}

/** Undefined when the lock is ours, the holder when it is not, `again` when somebody else moved meanwhile. */
async function tryLock(lock: string, own: string, self: Holder): Promise<Holder | 'again' | undefined> {
  if (await linked(own, lock)) return undefined
  const first = await readHolder(lock)
  if (first === undefined) return 'again'
  const claims: string[] = []
  for (let holder = first; ; ) {
    if (await isAlive(holder)) return holder
    const claim = `${lock}.${holder.pid}-${holder.start}-${holder.boot}`
    claims.push(claim)
    if (await linked(own, claim)) break
    const next = await readHolder(claim)
    if (next === undefined) return 'again'
    holder = next
  }
  if (!same(await readHolder(lock), first)) {
    await rm(claims.at(-1) ?? '', { force: true })
    return 'again'
  }
  await writeFile(`${own}.lock`, JSON.stringify(self), { mode: 0o600 })
  await rename(`${own}.lock`, lock)
  for (const claim of claims) await rm(claim, { force: true })
  return undefined
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Undefined where there is no file; a file that a power cut emptied names nobody alive. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const { pid, start, boot } = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    if (typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0)
      return { pid, start: plain(start), boot: plain(boot) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    if (!(error instanceof SyntaxError)) throw error
  }
  return { pid: 0, start: 'damaged', boot: '' }
}

/** These become part of a file's name. */
const plain = (value: unknown): string =>
  String(value)
    .replace(/[^a-z0-9]/gi, '')
    .slice(0, 40)

const same = (a: Holder | undefined, b: Holder): boolean =>
  a !== undefined && a.pid === b.pid && a.start === b.start && a.boot === b.boot

async function isAlive(holder: Holder): Promise<boolean> {
  if (holder.pid === 0) return false
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return same(await holderOf(holder.pid), holder)
}

/** The process that has this id now. Without /proc (macOS) the id alone must do. */
async function holderOf(pid: number): Promise<Holder> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => undefined)
  const [status, boot] = await Promise.all([
    read(`/proc/${pid}/stat`),
    read('/proc/sys/kernel/random/boot_id'),
  ])
  if (boot === undefined) return { pid, start: '', boot: '' }
  // The name, second field, is in brackets and may hold anything; state and start time are fields 3 and 22.
  const fields = status?.slice(status.lastIndexOf(')') + 2).split(' ') ?? []
  const gone = fields[0] === undefined || fields[0] === 'Z' || fields[0] === 'X'
  return { pid, start: gone ? 'gone' : plain(fields[19]), boot: plain(boot) }
}
