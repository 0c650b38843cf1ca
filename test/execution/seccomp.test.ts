// The filter's verdicts, by an interpreter of the classic BPF it is written in (linux/Documentation/networking/filter.rst),
// for both processors. That the kernel takes the bytes is shown by every sandboxed run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seccompFilter } from '../../src/execution/sandbox/seccomp.ts'

type Verdict = 'allow' | 'kill' | number

/** Runs the program over one system call. */
function judge(program: Uint8Array, audit: number, call: number, args: readonly number[] = []): Verdict {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(call >>> 0, 0)
  data.writeUInt32LE(audit, 4)
  for (const [index, value] of args.entries()) data.writeBigUInt64LE(BigInt(value), 16 + 8 * index)
  const code = Buffer.from(program)
  let accumulator = 0
  for (let at = 0; at < code.length / 8; at++) {
    const k = code.readUInt32LE(at * 8 + 4)
    const jump = (taken: boolean): void => {
      at += code.readUInt8(at * 8 + (taken ? 2 : 3))
    }
    const operation = code.readUInt16LE(at * 8)
    if (operation === 0x20) accumulator = data.readUInt32LE(k)
    else if (operation === 0x15) jump(accumulator === k)
    else if (operation === 0x35) jump(accumulator >= k)
    else if (operation === 0x45) jump((accumulator & k) !== 0)
    else if (operation === 0x06) return k === 0x7fff0000 ? 'allow' : k === 0x80000000 ? 'kill' : k & 0xffff
    else throw new Error(`unknown operation ${operation}`)
  }
  throw new Error('the program has no end')
}

const machines = [
  {
    arch: 'x64',
    audit: 0xc000003e,
    other: 0x40000003,
    calls: {
      read: 0,
      mount: 165,
      ptrace: 101,
      clone: 56,
      ioctl: 16,
      socket: 41,
      unshare: 272,
      memfd: 319,
      execve: 59,
      bpf: 321,
    },
  },
  {
    arch: 'arm64',
    audit: 0xc00000b7,
    other: 0x40000028,
    calls: {
      read: 63,
      mount: 40,
      ptrace: 117,
      clone: 220,
      ioctl: 29,
      socket: 198,
      unshare: 97,
      memfd: 279,
      execve: 221,
      bpf: 280,
    },
  },
] as const

describe.each(machines)('on $arch', ({ arch, audit, other, calls }) => {
  const filter = seccompFilter(arch, { countedMemory: true }) ?? new Uint8Array()
  const uncounted = seccompFilter(arch, { countedMemory: false }) ?? new Uint8Array()

  test('ordinary calls pass', () => {
    for (const call of [calls.read, calls.execve, calls.memfd])
      expect(judge(filter, audit, call)).toBe('allow')
  })

  test('dangerous calls are refused', () => {
    for (const call of [calls.mount, calls.ptrace, calls.unshare, calls.bpf, 425, 428, 438, 447])
      expect(judge(filter, audit, call)).toBe(1)
  })

  test('what no cgroup would count is refused where there is none', () => {
    expect(judge(uncounted, audit, calls.memfd)).toBe(1)
  })

  test('threads and forks pass, namespaces do not, and clone3 is unknown', () => {
    expect(judge(filter, audit, calls.clone, [0x3d0f00])).toBe('allow')
    expect(judge(filter, audit, calls.clone, [17])).toBe('allow')
    for (const flag of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
      expect(judge(filter, audit, calls.clone, [flag | 17])).toBe(1)
    expect(judge(filter, audit, 435)).toBe(38)
  })

  test('only Unix sockets are made, and nothing is typed into terminals', () => {
    expect(judge(filter, audit, calls.socket, [1, 1])).toBe('allow')
    for (const family of [2, 10, 16, 17, 38, 40])
      expect(judge(filter, audit, calls.socket, [family, 1])).toBe(97)
    expect(judge(filter, audit, calls.ioctl, [0, 0x5401])).toBe('allow')
    for (const request of [0x5412, 0x541c]) expect(judge(filter, audit, calls.ioctl, [0, request])).toBe(1)
    // The kernel looks at the low 32 bits of the request alone.
    expect(judge(filter, audit, calls.ioctl, [0, 0x1_0000_5412])).toBe(1)
  })

  test('newer calls are unknown, other processors end the process', () => {
    fc.assert(
      fc.property(fc.integer({ min: 463, max: 0x3fff_ffff }), call => judge(filter, audit, call) === 38),
    )
    fc.assert(fc.property(fc.integer({ min: 0, max: 1_000 }), call => judge(filter, other, call) === 'kill'))
  })

  test('every call has a verdict', () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.array(fc.nat(0xffff_ffff), { maxLength: 6 }), (call, args) => {
        judge(filter, audit, call, args)
      }),
    )
  })
})

test('the calls of x32 end the process', () => {
  const filter = seccompFilter('x64', { countedMemory: true }) ?? new Uint8Array()
  expect(judge(filter, 0xc000003e, 0x4000_0000 + 39)).toBe('kill')
})

test('a processor without a table has no filter, and so no sandbox', () => {
  expect(seccompFilter('riscv64', { countedMemory: true })).toBeUndefined()
})
