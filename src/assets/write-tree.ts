// Writes a release's files into a directory, from its byte stream, safely: a directory that is not there appears
// whole or not at all; what is there is never overwritten unless it is the beginning of the same release, or force
// was asked for; and no write goes through a symbolic link.
//
//   nothing at `out`       written beside it, as `.NAME.partial-MARKER`, and renamed; a partial directory that an
//                          interrupted run left is completed
//   an empty directory     written in place
//   the same release       in place: files that hash to what the index says stay, what is missing is written
//   anything else          `output-exists`; with force, entries of the release replace what is at their paths, and
//                          everything else stays
//
// "The same release" asks for no record of earlier runs: every entry there must be an entry of the index, and every
// file must be the right one or a beginning of it. So nothing that a user wrote can be lost.
import { chmod, lstat, mkdir, readdir, realpath, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { ContentIndex } from './content-index.ts'
import { makeDirectory } from './make-directory.ts'
import { fillTree } from './write-tree/fill.ts'
import { planTree, type ReadStream } from './write-tree/plan.ts'

export interface WriteTreeOptions extends CallOptions {
  readonly force?: boolean
  /** Bytes of the release that are in place so far, those found there included. */
  readonly onProgress?: (bytesDone: number) => void
  /** Tells one release's partial directory from another's: the content root. */
  readonly marker: string
}

export interface WrittenTree {
  /** Files written, and files found to be right already. */
  readonly written: number
  readonly kept: number
}

/** One run at a time per directory: two would take each other's files for strangers. */
const underWay = new Set<string>()

/**
 * @param read the release's stream, from an offset, for a length; called once where nothing is there yet.
 * @param out absolute path.
 * @throws CatalogError `output-exists`, `corrupt-content` when the stream is not what the index says, `busy`;
 * the errors of the file system pass through, and what was written by this call is removed.
 */
export async function writeTree(
  index: ContentIndex,
  read: ReadStream,
  out: string,
  options: WriteTreeOptions,
): Promise<WrittenTree> {
  if (underWay.has(out))
    throw new CatalogError(
      'busy',
      `${out} is being written by another request. Wait for it, or give another directory.`,
    )
  underWay.add(out)
  try {
    return (await exists(out))
      ? await writeInPlace(index, read, out, options)
      : await writeBeside(index, read, out, options)
  } finally {
    underWay.delete(out)
  }
}

async function writeBeside(
  index: ContentIndex,
  read: ReadStream,
  out: string,
  options: WriteTreeOptions,
): Promise<WrittenTree> {
  const parent = dirname(out)
  await makeDirectory(parent)
  const partial = join(parent, partialName(basename(out), options.marker))
  await makePartial(partial)
  try {
    // What lies in a partial directory is ours: whatever is wrong with it may be replaced.
    const plan = await planTree(index, read, partial, { ...options, force: true, prune: true })
    const result = await fillTree(read, partial, plan, options)
    await chmod(partial, 0o755)
    await moveIntoPlace(partial, out)
    return result
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    throw error
  }
}

async function makePartial(partial: string): Promise<void> {
  try {
    await mkdir(partial, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new CatalogError(
        'no-such-path',
        `No directory can be made at ${partial}. Give another place.`,
        { path: partial },
        error,
      )
    if (code !== 'EEXIST') throw error
    const status = await lstat(partial)
    if (!status.isDirectory() || (process.geteuid !== undefined && status.uid !== process.geteuid()))
      throw new CatalogError(
        'output-exists',
        `${partial} is in the way, and is no directory of ours. Remove it, or give another directory.`,
        { path: partial },
      )
  }
}

async function moveIntoPlace(partial: string, out: string): Promise<void> {
  try {
    await rename(partial, out)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') throw error
    throw new CatalogError(
      'output-exists',
      `${out} appeared while the files were written. Look at what it is, then try again.`,
      { path: out },
      error,
    )
  }
}

async function writeInPlace(
  index: ContentIndex,
  read: ReadStream,
  out: string,
  options: WriteTreeOptions,
): Promise<WrittenTree> {
  const root = await existingDirectory(out)
  const plan = await planTree(index, read, root, { ...options, force: options.force ?? false, prune: false })
  return await fillTree(read, root, plan, options)
}

/** `out` itself may be a link to a directory: the user named it. */
async function existingDirectory(out: string): Promise<string> {
  try {
    const root = await realpath(out)
    await readdir(root)
    return root
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOTDIR' && code !== 'ENOENT') throw error
    throw new CatalogError(
      'output-exists',
      `${out} exists and is not a directory. Remove it, or give another directory.`,
      { path: out },
      error,
    )
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** Short enough for a name; the end of a CID is where CIDs differ. */
function partialName(name: string, marker: string): string {
  let kept = name
  while (Buffer.byteLength(kept) > 200) kept = kept.slice(0, -1)
  return `.${kept.toWellFormed()}.partial-${marker.replaceAll(/[^A-Za-z0-9]/g, '').slice(-16)}`
}
