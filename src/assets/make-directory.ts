// A directory and those above it, made by steps that end.
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CatalogError } from '../base/errors.ts'

/**
 * Like `mkdir -p`. Not node's own `recursive`: below /proc, where a directory that is there refuses entries with
 * ENOENT, that spins for ever in a thread that nothing can stop (Node.js 24).
 * @throws CatalogError `no-such-path` where no directory can be made; other errors of the file system pass through.
 */
export async function makeDirectory(path: string, mode = 0o777): Promise<void> {
  try {
    await mkdir(path, { mode })
    return
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
  }
  await makeDirectory(dirname(path), mode)
  try {
    await mkdir(path, { mode })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT') throw error
    throw new CatalogError(
      'no-such-path',
      `No directory can be made at ${path}. Give another place.`,
      { path },
      error,
    )
  }
}
