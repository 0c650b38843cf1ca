// What a run uses, measured from outside: bytes in its writable directories, and, where no cgroup counts them, the
// memory, processor time and processes of its tree, from /proc. Measures only; watch.ts draws the consequences.
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { opendir } from 'node:fs/promises'
import { join } from 'node:path'

const blockBytes = 512
const entryBytes = 4_096
/** Deeper than any program needs; a path this deep is near what the kernel takes as one name. */
const deepest = 128

/**
 * Bytes allocated below the directories, counting each entry as 4 KiB at least, so that a million empty files are
 * seen too. Stops when the sum passes `stopAt`; a tree too deep to walk counts as past it.
 */
export async function diskUsage(directories: readonly string[], stopAt: number): Promise<number> {
  let bytes = 0
  const pending = directories.map(path => ({ path, depth: 0 }))
  const links = new Set<number>()
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (next.depth > deepest) return Number.POSITIVE_INFINITY
    try {
      // Read in large pieces and looked at at once: a payload that makes files as fast as it can must not outrun this.
      for await (const entry of await opendir(next.path, { bufferSize: 512 })) {
        const path = join(next.path, entry.name)
        if (entry.isDirectory()) pending.push({ path, depth: next.depth + 1 })
        const { blocks, nlink, ino } = lstatSync(path)
        if (nlink > 1 && !entry.isDirectory()) {
          if (!links.has(ino)) bytes += blocks * blockBytes
          links.add(ino)
          bytes += entryBytes
        } else bytes += Math.max(blocks * blockBytes, entryBytes)
        if (bytes > stopAt) return bytes
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') return Number.POSITIVE_INFINITY
      // Removed or closed to us between two steps: the next round sees what is left.
    }
  }
  return bytes
}

/** Bytes of files on `device` that have no name any more but are held open: no directory shows them. */
export function unlinkedBytes(pids: readonly number[], device: number): number {
  const seen = new Map<number, number>()
  for (const pid of pids)
    for (const descriptor of namesIn(`/proc/${pid}/fd`))
      try {
        const { dev, nlink, ino, blocks } = statSync(`/proc/${pid}/fd/${descriptor}`)
        if (dev === device && nlink === 0) seen.set(ino, blocks * blockBytes)
      } catch {
        // Closed meanwhile.
      }
  return [...seen.values()].reduce((sum, bytes) => sum + bytes, 0)
}

/** The process and all its descendants. Orphans stay among them: pid 1 of the sandbox, which adopts them, is one. */
export function processTree(root: number, most: number): number[] {
  const found = [root]
  for (const pid of found) {
    for (const thread of namesIn(`/proc/${pid}/task`))
      for (const child of readText(`/proc/${pid}/task/${thread}/children`).split(' '))
        if (Number(child) > 0) found.push(Number(child))
    if (found.length > most) break
  }
  return found
}

export interface TreeUsage {
  readonly threads: number
  readonly cpuSeconds: number
  /** Anonymous and shared memory; pages that processes share are counted once for each. */
  readonly memoryBytes: number
}

const ticksPerSecond = 100

export function treeUsage(pids: readonly number[]): TreeUsage {
  let threads = 0
  let cpuTicks = 0
  let memoryBytes = 0
  for (const pid of pids) {
    // The name is in brackets and may hold anything; fields count from behind it (proc_pid_stat(5): utime is 14).
    const stat = readText(`/proc/${pid}/stat`)
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields.length < 18) continue
    threads += Number(fields[17])
    for (const field of [11, 12, 13, 14]) cpuTicks += Number(fields[field])
    const status = readText(`/proc/${pid}/status`)
    for (const name of ['RssAnon', 'RssShmem'])
      memoryBytes += 1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  }
  return { threads, cpuSeconds: cpuTicks / ticksPerSecond, memoryBytes }
}

/** Memory with shared pages divided among their sharers: dearer to ask for, so only asked before a verdict. */
export function proportionalMemory(pids: readonly number[]): number | undefined {
  let bytes = 0
  for (const pid of pids) {
    const rollup = readText(`/proc/${pid}/smaps_rollup`)
    for (const name of ['Pss_Anon', 'Pss_Shmem']) {
      const value = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1]
      if (value !== undefined) bytes += 1024 * Number(value)
    }
  }
  return bytes === 0 ? undefined : bytes
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
