// Descriptors that this process inherited without close-on-exec (a shell's, a supervisor's) and that every child
// would inherit in turn: a way out of any sandbox. Node.js marks only the first few.
import { readdirSync, readFileSync } from 'node:fs'

const closeOnExec = 0o2000000

/** Open descriptors from `first` on that a child would get, ascending. */
export function inheritedDescriptors(first: number): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter(fd => {
      if (fd < first) return false
      try {
        const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]
        return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0
      } catch {
        return false
      }
    })
    .sort((a, b) => a - b)
}
