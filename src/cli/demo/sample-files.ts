// Files for the demo: the same every time, some megabytes, and as mixed as a real package: many small, a few large.
import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

const smallFiles = 300
const largeFileBytes = 3 * 1024 * 1024
const largeFiles = 5

export async function makeSampleFiles(
  directory: string,
  write: (path: string, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  for (let group = 0; group < 10; group++) await mkdir(join(directory, `group-${group}`))
  for (let file = 0; file < smallFiles; file++)
    await write(
      join(directory, `group-${file % 10}`, `part-${String(file).padStart(3, '0')}.bin`),
      sampleBytes(`small ${file}`, 200 + ((file * 397) % 6000)),
    )
  for (let file = 0; file < largeFiles; file++)
    await write(join(directory, `large-${file}.bin`), sampleBytes(`large ${file}`, largeFileBytes))
}

/** Bytes that do not compress and do not repeat (SHAKE-256 of the seed). */
function sampleBytes(seed: string, length: number): Uint8Array {
  return createHash('shake256', { outputLength: length }).update(seed).digest()
}
