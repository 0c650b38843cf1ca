// The system-call filter of the sandbox, as classic BPF bytes for `bwrap --seccomp FD` (seccomp(2), struct sock_filter).
// A deny list over what the namespaces do not already take away: the calls that reach deep into the kernel and that
// no ordinary program needs. Anything newer than this table is answered as if the kernel did not have it.
//
// Another architecture's calls (i386, x32 on x86-64) end the process: their numbers would slip past the table.

type Numbers = readonly [x86_64: number | undefined, aarch64: number | undefined]

// Numbers from linux/arch/x86/entry/syscalls/syscall_64.tbl and linux/include/uapi/asm-generic/unistd.h.
const both = (number: number): Numbers => [number, number]
const x86 = (number: number): Numbers => [number, undefined]

/** Answered with EPERM. */
const refused: Readonly<Record<string, Numbers>> = {
  // other processes' memory and descriptors
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  kcmp: [312, 272],
  pidfd_getfd: both(438),
  process_madvise: both(440),
  // mounts and namespaces
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  open_tree: both(428),
  move_mount: both(429),
  fsopen: both(430),
  fsconfig: both(431),
  fsmount: both(432),
  fspick: both(433),
  mount_setattr: both(442),
  statmount: both(457),
  listmount: both(458),
  unshare: [272, 97],
  setns: [308, 268],
  // the large in-kernel machines
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: both(425),
  io_uring_enter: both(426),
  io_uring_register: both(427),
  fanotify_init: [300, 262],
  fanotify_mark: [301, 263],
  // the key rings, which no namespace separates
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  // the kernel itself
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  create_module: x86(174),
  get_kernel_syms: x86(177),
  query_module: x86(178),
  syslog: [103, 116],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  acct: [163, 89],
  quotactl: [179, 60],
  quotactl_fd: both(443),
  sethostname: [170, 161],
  setdomainname: [171, 162],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  adjtimex: [159, 171],
  iopl: x86(172),
  ioperm: x86(173),
  modify_ldt: x86(154),
  // file handles reach around mounts
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  // memory that accounting does not see, and placement on others' nodes
  memfd_secret: both(447),
  mbind: [237, 235],
  set_mempolicy: [238, 237],
  set_mempolicy_home_node: both(450),
  migrate_pages: [256, 238],
  move_pages: [279, 239],
  // relics, and the switch that turns randomised addresses off
  personality: [135, 92],
  vhangup: [153, 58],
  uselib: x86(134),
  ustat: x86(136),
  sysfs: x86(139),
  _sysctl: x86(156),
  lookup_dcookie: [212, 18],
  nfsservctl: [180, 42],
}

/** Refused as well where no cgroup counts memory: both hold pages that belong to no process. */
const refusedUncounted: Readonly<Record<string, Numbers>> = {
  memfd_create: [319, 279],
  shmget: [29, 194],
}

const calls = {
  clone: [56, 220],
  clone3: [435, 435],
  ioctl: [16, 29],
  socket: [41, 198],
  socketpair: [53, 199],
} as const satisfies Record<string, Numbers>

const newestKnown = 462
const namespaceFlags = 0x7e02_0000
const terminalInjection = [0x5412, 0x541c] // TIOCSTI, TIOCLINUX
const afUnix = 1
const errno = { perm: 1, noSys: 38, addressFamily: 97 }

const architectures = {
  x64: { index: 0, audit: 0xc000_003e, x32Bit: 0x4000_0000 },
  arm64: { index: 1, audit: 0xc000_00b7, x32Bit: undefined },
} as const

const allow = 0x7fff_0000
const killProcess = 0x8000_0000
const fail = (number: number): number => 0x0005_0000 | number

// struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments (the low word first on both machines).
const atNumber = 0
const atArchitecture = 4
const atArgument = (index: number): number => 16 + 8 * index

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, k: number]
const load = (offset: number): Instruction => [0x20, 0, 0, offset]
const end = (action: number): Instruction => [0x06, 0, 0, action]
const unlessEqual = (k: number, skip: number): Instruction => [0x15, 0, skip, k]
const ifEqual = (k: number, skip: number): Instruction => [0x15, skip, 0, k]
const unlessAtLeast = (k: number, skip: number): Instruction => [0x35, 0, skip, k]
const unlessAnyBit = (k: number, skip: number): Instruction => [0x45, 0, skip, k]

/**
 * @param options.countedMemory whether a cgroup counts the payload's memory
 * @returns the program's bytes, or undefined for a processor that has no table here
 */
export function seccompFilter(arch: string, options: { countedMemory: boolean }): Uint8Array | undefined {
  if (arch !== 'x64' && arch !== 'arm64') return undefined
  const { index, audit, x32Bit } = architectures[arch]
  const denied = options.countedMemory ? refused : { ...refused, ...refusedUncounted }

  const program: Instruction[] = [load(atArchitecture), ifEqual(audit, 1), end(killProcess), load(atNumber)]
  if (x32Bit !== undefined) program.push(unlessAtLeast(x32Bit, 1), end(killProcess))
  program.push(unlessAtLeast(newestKnown + 1, 1), end(fail(errno.noSys)))
  for (const numbers of Object.values(denied)) {
    const number = numbers[index]
    if (number !== undefined) program.push(unlessEqual(number, 1), end(fail(errno.perm)))
  }
  program.push(unlessEqual(calls.clone3[index], 1), end(fail(errno.noSys)))
  // Each block below ends in a verdict, so the accumulator still holds the call's number for the next one.
  program.push(
    ...block(calls.clone[index], [
      load(atArgument(0)),
      unlessAnyBit(namespaceFlags, 1),
      end(fail(errno.perm)),
      end(allow),
    ]),
    ...block(calls.ioctl[index], [
      load(atArgument(1)),
      ...terminalInjection.flatMap(request => [unlessEqual(request, 1), end(fail(errno.perm))]),
      end(allow),
    ]),
  )
  for (const call of [calls.socket, calls.socketpair])
    program.push(
      ...block(call[index], [
        load(atArgument(0)),
        unlessEqual(afUnix, 1),
        end(allow),
        end(fail(errno.addressFamily)),
      ]),
    )
  program.push(end(allow))
  return encode(program)
}

const block = (call: number, body: readonly Instruction[]): Instruction[] => [
  unlessEqual(call, body.length),
  ...body,
]

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(program.length * 8)
  program.forEach(([code, ifTrue, ifFalse, k], index) => {
    bytes.writeUInt16LE(code, index * 8)
    bytes.writeUInt8(ifTrue, index * 8 + 2)
    bytes.writeUInt8(ifFalse, index * 8 + 3)
    bytes.writeUInt32LE(k >>> 0, index * 8 + 4)
  })
  return bytes
}
