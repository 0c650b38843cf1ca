// The command line that puts a payload in its sandbox: launcher, uid change, bubblewrap, limits, payload.
// Owns what a payload sees; knows nothing of time, output or cleaning up.
//
//   sh (joins the cgroups) => setpriv (dedicated uid, strong tier) => bwrap -> sh (pid 1, job file) -> prlimit => env => payload
//
// bwrap starts with an empty environment, so that nothing inside can be left with it. bwrap's own reaper is not used:
// bwrap ends before that reaper does, which leaves a zombie to a host that may not reap (a container's pid 1). Its
// arguments come by descriptor 3 and the filter by 4; the payload's arguments and environment are in the job file,
// so that `ps` on the host shows none of them.
import { existsSync } from 'node:fs'

export const packagePath = '/package'
export const scratchPath = '/scratch'
export const runtimePath = '/runtime'
const jobPath = `${runtimePath}/job`

export const systemTools = {
  bwrap: '/usr/bin/bwrap',
  shell: '/bin/sh',
  setpriv: '/usr/bin/setpriv',
  prlimit: '/usr/bin/prlimit',
  env: '/usr/bin/env',
} as const

/** The uid and gid that a payload sees itself as. */
const nobody = '65534'

/** Read-only parts of the system that interpreters need; no /etc but the linker's cache and the alternatives' links. */
const systemDirectories = ['/usr/bin', '/usr/lib', '/usr/lib64', '/usr/lib32', '/usr/libexec', '/usr/share']
const systemFiles = ['/etc/alternatives', '/etc/ld.so.cache']
/** Links into /usr on merged systems, directories of their own on others. */
const rootDirectories = ['bin', 'lib', 'lib64', 'lib32']

const deviceFiles = ['null', 'zero', 'full', 'random', 'urandom']

/** What /proc shows of the host rather than of the sandbox, and what changes the kernel. */
const hiddenProcDirectories = ['sys', 'irq', 'bus', 'fs', 'scsi', 'acpi', 'driver', 'tty', 'sysvipc']
const hiddenProcFiles = [
  'keys',
  'key-users',
  'kcore',
  'kallsyms',
  'kmsg',
  'kpagecount',
  'kpagecgroup',
  'kpageflags',
  'sysrq-trigger',
  'timer_list',
  'sched_debug',
  'latency_stats',
  'config.gz',
  'modules',
  'vmallocinfo',
  'slabinfo',
  'iomem',
  'ioports',
  'mtrr',
  'cmdline',
  'mdstat',
  'diskstats',
  'partitions',
  'swaps',
  'locks',
]

export interface Mounts {
  readonly packageDirectory: string
  readonly scratchDirectory: string
  readonly tmpDirectory: string
  readonly jobFile: string
  /** Read-only files and directories: name under /runtime to host path. */
  readonly runtimeFiles: Readonly<Record<string, string>>
  readonly sharedMemoryBytes: number
}

/** The options for bwrap, NUL-separated, for `--args FD`. */
export function bwrapOptions(mounts: Mounts, seccompFd: number): Uint8Array {
  const options = [
    ...[
      '--unshare-all',
      '--unshare-user',
      '--disable-userns',
      '--new-session',
      '--die-with-parent',
      '--as-pid-1',
    ],
    ...['--cap-drop', 'ALL', '--clearenv', '--uid', nobody, '--gid', nobody, '--hostname', 'sandbox'],
    ...['--seccomp', String(seccompFd)],
    ...systemDirectories.flatMap(path => (existsSync(path) ? ['--ro-bind', path, path] : [])),
    ...systemFiles.flatMap(path => ['--ro-bind-try', path, path]),
    ...rootDirectories.flatMap(name =>
      existsSync(`/usr/${name}`)
        ? ['--symlink', `usr/${name}`, `/${name}`]
        : ['--ro-bind-try', `/${name}`, `/${name}`],
    ),
    ...['--proc', '/proc'],
    ...hiddenProcDirectories.flatMap(name =>
      existsSync(`/proc/${name}`)
        ? ['--size', '4096', '--tmpfs', `/proc/${name}`, '--remount-ro', `/proc/${name}`]
        : [],
    ),
    ...hiddenProcFiles.flatMap(name =>
      existsSync(`/proc/${name}`) ? ['--ro-bind', '/dev/null', `/proc/${name}`] : [],
    ),
    ...['--size', '65536', '--tmpfs', '/dev'],
    ...deviceFiles.flatMap(name => ['--dev-bind', `/dev/${name}`, `/dev/${name}`]),
    ...['--symlink', '/proc/self/fd', '/dev/fd', '--symlink', '/proc/self/fd/0', '/dev/stdin'],
    ...['--symlink', '/proc/self/fd/1', '/dev/stdout', '--symlink', '/proc/self/fd/2', '/dev/stderr'],
    ...['--perms', '1777', '--size', String(mounts.sharedMemoryBytes), '--tmpfs', '/dev/shm'],
    ...['--remount-ro', '/dev'],
    ...['--ro-bind', mounts.packageDirectory, packagePath],
    ...['--bind', mounts.scratchDirectory, scratchPath],
    ...['--bind', mounts.tmpDirectory, '/tmp'],
    ...['--ro-bind', mounts.jobFile, jobPath],
    ...Object.entries(mounts.runtimeFiles).flatMap(([name, source]) => [
      '--ro-bind',
      source,
      `${runtimePath}/${name}`,
    ]),
    ...['--remount-ro', '/', '--chdir', packagePath],
  ]
  return Buffer.from(options.map(option => `${option}\0`).join(''))
}

export interface Limits {
  readonly processes: number
  readonly fileBytes: number
  readonly cpuSeconds: number
  readonly openFiles: number
  /** Private writable memory of each process; only where no cgroup counts it. */
  readonly dataBytes?: number
}

/** The shell file that runs inside: limits first, with a clean environment, then the payload's environment and arguments. */
export function jobFile(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  limits: Limits,
): string {
  const both = (name: string, value: number): string => `--${name}=${Math.ceil(value)}:${Math.ceil(value)}`
  const command = [
    systemTools.prlimit,
    both('nproc', limits.processes),
    both('fsize', limits.fileBytes),
    both('cpu', limits.cpuSeconds),
    both('nofile', limits.openFiles),
    // 1, not 0: a core_pattern that is a pipe ignores 0 and is refused by 1 (fs/coredump.c).
    both('core', 1),
    both('memlock', 65_536),
    both('msgqueue', 65_536),
    both('sigpending', 1_024),
    ...(limits.dataBytes === undefined ? [] : [both('data', limits.dataBytes)]),
    systemTools.env,
    '-i',
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...argv,
  ]
  // The shell stays, as pid 1: it reaps orphans, and its own remarks ("Killed") are not the payload's.
  return `exec 3>&2 2>/dev/null\n${command.map(quote).join(' ')} 2>&3 3>&-\nexit $?\n`
}

const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

const launcher = `set -e
groups=$1; shift
while [ "$groups" -gt 0 ]; do echo 0 > "$1"; shift; groups=$((groups - 1)); done
(echo 1000 > /proc/self/oom_score_adj) 2>/dev/null && echo 1000 > /proc/self/oom_score_adj || true
exec "$@"
`

/** The whole command; to be spawned with an empty environment and the two descriptors. */
export function sandboxCommand(options: {
  readonly bwrap: string
  readonly joinFiles: readonly string[]
  /** The dedicated uid and gid; absent: our own. */
  readonly uid?: number
  readonly argsFd: number
  readonly statusFd: number
}): { readonly file: string; readonly args: readonly string[] } {
  const { uid, joinFiles } = options
  const drop =
    uid === undefined
      ? []
      : [
          ...[systemTools.setpriv, '--reuid', String(uid), '--regid', String(uid), '--clear-groups'],
          ...['--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--'],
        ]
  return {
    file: systemTools.shell,
    args: [
      ...['-c', launcher, 'catalog-sandbox', String(joinFiles.length), ...joinFiles],
      ...drop,
      ...[options.bwrap, '--args', String(options.argsFd), '--json-status-fd', String(options.statusFd)],
      ...['--', '/bin/sh', jobPath],
    ],
  }
}
