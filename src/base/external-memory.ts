// Freeing, in time, large buffers that live outside of V8's heap for a moment only: pieces that the transport hands over,
// shards that are read to be sent. V8 answers every few dozen megabytes of them with a collection of its whole heap,
// although all of them are young; a collection of the young alone frees them at a hundredth of the cost. Measured in a
// daemon that moves 1 GiB: half of its processor time, and a third of its memory.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Well below what makes V8 begin a full collection (32 MiB and up). */
const collectEveryBytes = 16 * 1024 * 1024

let unfreed = 0
let collect: ((options: { type: 'minor' }) => void) | undefined

/** A buffer that will soon be dropped, its bytes undefined. */
export function allocateOnce(bytes: number): Buffer {
  noteExternalBytes(bytes)
  return Buffer.allocUnsafeSlow(bytes)
}

/** Tells of a buffer of so many bytes that was made and will soon be dropped. */
export function noteExternalBytes(bytes: number): void {
  unfreed += bytes
  if (unfreed < collectEveryBytes) return
  unfreed = 0
  collect ??= exposeCollector()
  collect({ type: 'minor' })
}

/** V8's own way to ask for a collection, without a flag on the command line. */
function exposeCollector(): (options: { type: 'minor' }) => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as (options: { type: 'minor' }) => void
}
