// Control groups, version 1 and 2: one group per run that bounds memory, CPU and processes and tells which bound was
// hit. Finds where this process may make groups, makes and removes them, and clears those that a killed daemon left.
//
// v1: a directory per controller below our own group in it. v2: one directory beside our own group (a group that holds
// processes cannot hand controllers to children), which systemd permits to root and inside a delegated user tree.
// Sources: Documentation/admin-guide/cgroup-v1, Documentation/admin-guide/cgroup-v2.rst.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface GroupLimits {
  readonly memoryMb: number
  readonly cpuCores: number
  readonly processes: number
}

export interface GroupCounters {
  /** Processes ended because the group was out of memory. */
  readonly memoryKills: number
  /** Forks refused because the group had its number of processes. */
  readonly processRefusals: number
  readonly cpuSeconds?: number
  readonly peakMemoryMb?: number
}

export interface ControlGroup {
  /** A process that writes 0 to each of these files is in the group. */
  readonly joinFiles: readonly string[]
  counters(): GroupCounters
  /** Ends what is left in the group and removes it; within about 2 s. Safe to call twice. */
  remove(): Promise<void>
}

export interface ControlGroups {
  readonly version: 1 | 2
  create(name: string, limits: GroupLimits): ControlGroup
  /** Ends and removes every group whose name starts with the prefix. */
  removeStale(prefix: string): Promise<void>
}

export interface CgroupPaths {
  readonly mountInfo: string
  readonly ownGroups: string
}

const mib = 1024 * 1024
const cpuPeriodMicros = 100_000

/** Where groups can be made by this process, tried by making one; or why not. */
export function findControlGroups(
  probeName: string,
  paths: CgroupPaths = {
    mountInfo: readFileSync('/proc/self/mountinfo', 'utf8'),
    ownGroups: readFileSync('/proc/self/cgroup', 'utf8'),
  },
): ControlGroups | { readonly reason: string } {
  const reasons: string[] = []
  for (const find of [findVersion2, findVersion1]) {
    try {
      const groups = find(paths)
      const probe = groups.create(probeName, { memoryMb: 64, cpuCores: 1, processes: 8 })
      probe.counters()
      for (const file of probe.joinFiles) rmdirSync(dirname(file))
      return groups
    } catch (error) {
      reasons.push((error as Error).message)
    }
  }
  return { reason: reasons.join('; ') }
}

interface Mount {
  readonly root: string
  readonly point: string
  readonly type: string
  readonly options: readonly string[]
}

function cgroupMounts(mountInfo: string): Mount[] {
  return mountInfo.split('\n').flatMap(line => {
    const [left, right] = line.split(' - ')
    const [, , , root, point] = (left ?? '').split(' ')
    const [type, , options] = (right ?? '').split(' ')
    return (type === 'cgroup' || type === 'cgroup2') && root !== undefined && point !== undefined
      ? [{ root, point, type, options: (options ?? '').split(',') }]
      : []
  })
}

/** The directory of our own group under a mount; the mount's root where the path belongs to another namespace. */
function ownDirectory(mount: Mount, ownPath: string): string {
  const inside =
    mount.root !== '/' && ownPath.startsWith(mount.root) ? ownPath.slice(mount.root.length) : ownPath
  const directory = resolve(mount.point, `.${inside}`)
  return existsSync(directory) ? directory : mount.point
}

function ownPathOf(ownGroups: string, controller: string): string {
  for (const line of ownGroups.split('\n')) {
    const [, controllers, ...path] = line.split(':')
    if (controllers?.split(',').includes(controller)) return path.join(':')
  }
  return '/'
}

function findVersion2({ mountInfo, ownGroups }: CgroupPaths): ControlGroups {
  const mount = cgroupMounts(mountInfo).find(({ type }) => type === 'cgroup2')
  if (mount === undefined) throw new Error('cgroup v2 is not mounted')
  const own = ownDirectory(mount, ownPathOf(ownGroups, ''))
  const parent = own === mount.point ? own : dirname(own)
  const available = readFileSync(join(parent, 'cgroup.controllers'), 'utf8').trim().split(' ')
  for (const controller of ['memory', 'pids', 'cpu'])
    if (!available.includes(controller)) throw new Error(`cgroup v2 has no ${controller} controller here`)
  const handed = readFileSync(join(parent, 'cgroup.subtree_control'), 'utf8').trim().split(' ')
  if (!['memory', 'pids', 'cpu'].every(controller => handed.includes(controller)))
    writeFileSync(join(parent, 'cgroup.subtree_control'), '+memory +pids +cpu')
  return {
    version: 2,
    create: (name, limits) => createVersion2(join(parent, name), limits),
    removeStale: prefix => removeStale([parent], prefix),
  }
}

function createVersion2(directory: string, limits: GroupLimits): ControlGroup {
  mkdirSync(directory)
  return orRemove([directory], () => {
    write(directory, 'memory.max', Math.ceil(limits.memoryMb * mib))
    if (existsSync(join(directory, 'memory.swap.max'))) write(directory, 'memory.swap.max', 0)
    if (existsSync(join(directory, 'memory.oom.group'))) write(directory, 'memory.oom.group', 1)
    write(directory, 'pids.max', limits.processes)
    write(directory, 'cpu.max', `${cpuQuota(limits.cpuCores)} ${cpuPeriodMicros}`)
    return {
      joinFiles: [join(directory, 'cgroup.procs')],
      counters: () => {
        const peak = numberIn(directory, 'memory.peak')
        const cpuMicros = fieldIn(directory, 'cpu.stat', 'usage_usec')
        return {
          memoryKills: fieldIn(directory, 'memory.events', 'oom_kill') ?? 0,
          processRefusals: fieldIn(directory, 'pids.events', 'max') ?? 0,
          ...(cpuMicros === undefined ? {} : { cpuSeconds: cpuMicros / 1e6 }),
          ...(peak === undefined ? {} : { peakMemoryMb: peak / mib }),
        }
      },
      remove: () => endAndRemove([directory]),
    }
  })
}

function findVersion1({ mountInfo, ownGroups }: CgroupPaths): ControlGroups {
  const mounts = cgroupMounts(mountInfo).filter(({ type }) => type === 'cgroup')
  const parentOf = (controller: string): string | undefined => {
    const mount = mounts.find(({ options }) => options.includes(controller))
    return mount && ownDirectory(mount, ownPathOf(ownGroups, controller))
  }
  const parents: Record<string, string> = {}
  for (const controller of ['memory', 'pids', 'cpu']) {
    const parent = parentOf(controller)
    if (parent === undefined) throw new Error(`cgroup v1 has no ${controller} controller mounted`)
    parents[controller] = parent
  }
  parents['cpuacct'] = parentOf('cpuacct') ?? (parents['cpu'] as string)
  return {
    version: 1,
    create: (name, limits) => createVersion1(parents, name, limits),
    removeStale: prefix => removeStale([...new Set(Object.values(parents))], prefix),
  }
}

function createVersion1(
  parents: Readonly<Record<string, string>>,
  name: string,
  limits: GroupLimits,
): ControlGroup {
  const at = (controller: string): string => join(parents[controller] as string, name)
  const directories = [...new Set(Object.keys(parents).map(at))]
  for (const [index, directory] of directories.entries())
    orRemove(directories.slice(0, index), () => mkdirSync(directory))
  return orRemove(directories, () => {
    const memory = at('memory')
    const memoryBytes = Math.ceil(limits.memoryMb * mib)
    write(memory, 'memory.limit_in_bytes', memoryBytes)
    // Memory and swap together; absent where the kernel does not count swap.
    if (existsSync(join(memory, 'memory.memsw.limit_in_bytes')))
      write(memory, 'memory.memsw.limit_in_bytes', memoryBytes)
    write(at('pids'), 'pids.max', limits.processes)
    write(at('cpu'), 'cpu.cfs_period_us', cpuPeriodMicros)
    write(at('cpu'), 'cpu.cfs_quota_us', cpuQuota(limits.cpuCores))
    return {
      joinFiles: directories.map(directory => join(directory, 'cgroup.procs')),
      counters: () => {
        const peak = numberIn(memory, 'memory.max_usage_in_bytes')
        const cpuNanos = numberIn(at('cpuacct'), 'cpuacct.usage')
        return {
          memoryKills: fieldIn(memory, 'memory.oom_control', 'oom_kill') ?? 0,
          processRefusals: fieldIn(at('pids'), 'pids.events', 'max') ?? 0,
          ...(cpuNanos === undefined ? {} : { cpuSeconds: cpuNanos / 1e9 }),
          ...(peak === undefined ? {} : { peakMemoryMb: peak / mib }),
        }
      },
      remove: () => endAndRemove(directories),
    }
  })
}

/** The kernel takes no quota under 1 ms. */
const cpuQuota = (cores: number): number => Math.max(1_000, Math.round(cores * cpuPeriodMicros))

const write = (directory: string, file: string, value: string | number): void =>
  writeFileSync(join(directory, file), String(value))

function numberIn(directory: string, file: string): number | undefined {
  try {
    return Number(readFileSync(join(directory, file), 'utf8'))
  } catch {
    return undefined
  }
}

function fieldIn(directory: string, file: string, field: string): number | undefined {
  try {
    const line = readFileSync(join(directory, file), 'utf8')
      .split('\n')
      .find(entry => entry.startsWith(`${field} `))
    return line === undefined ? undefined : Number(line.slice(field.length + 1))
  } catch {
    return undefined
  }
}

function orRemove<T>(directories: readonly string[], make: () => T): T {
  try {
    return make()
  } catch (error) {
    for (const directory of directories)
      try {
        rmdirSync(directory)
      } catch {
        // The first error is the one to tell.
      }
    throw error
  }
}

async function removeStale(parents: readonly string[], prefix: string): Promise<void> {
  const stale = parents.flatMap(parent =>
    readdirSync(parent, { withFileTypes: true })
      .filter(entry => entry.isDirectory() && entry.name.startsWith(prefix))
      .map(entry => join(parent, entry.name)),
  )
  await endAndRemove(stale)
}

/** A group's directory goes only when its last process is reaped, which takes a moment after the kill. */
async function endAndRemove(directories: readonly string[]): Promise<void> {
  let last: unknown
  for (let attempt = 0; attempt < 100; attempt++) {
    const left = directories.filter(existsSync)
    if (left.length === 0) return
    for (const directory of left)
      try {
        for (const pid of readFileSync(join(directory, 'cgroup.procs'), 'utf8').split('\n'))
          if (Number(pid) > 0) process.kill(Number(pid), 'SIGKILL')
        rmdirSync(directory)
      } catch (error) {
        last = error
      }
    if (directories.some(existsSync)) await sleep(attempt < 10 ? 5 : 20)
  }
  if (directories.some(existsSync)) throw last
}
