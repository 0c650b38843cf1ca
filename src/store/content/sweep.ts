// Taking away what interrupted work left: staged files, payloads without a record, hints of shards that are gone.
// Safe while the store is used: each payload is looked at again once nobody can be bringing its root in.
import type { Leftovers } from '../../assets/content-store.ts'
import type { CidText } from '../../base/cid.ts'
import type { CallOptions } from '../../base/lifecycle.ts'
import { isMissing } from '../file-system.ts'
import type { PayloadDisk } from './payload-disk.ts'
import type { ContentRecords } from './records.ts'

export interface SweepDeps {
  readonly disk: PayloadDisk
  readonly records: ContentRecords
  /** Held, or being brought in or taken away right now. */
  readonly isKnown: (root: CidText) => boolean
  /** Runs alone among the changes of the root, if it is not known by then. */
  readonly ifUnknown: (root: CidText, work: () => Promise<void>) => Promise<void>
}

export async function sweep(
  { disk, records, isKnown, ifUnknown }: SweepDeps,
  { signal, dryRun }: CallOptions & { readonly dryRun: boolean },
): Promise<Leftovers> {
  let files = 0
  let fileBytes = 0
  let hints = 0
  for await (const { path, root } of disk.leftovers(isKnown)) {
    signal?.throwIfAborted()
    const length = await lengthOf(disk, path)
    if (length === undefined) continue
    files += 1
    fileBytes += length
    if (dryRun) continue
    const unlink = () => disk.discard(path)
    await (root === undefined ? unlink() : ifUnknown(root, unlink))
  }
  for await (const keys of records.stale(root => !isKnown(root))) {
    signal?.throwIfAborted()
    hints += keys.length
    // A root that came in since then loses hints at worst, and the next fetch some bytes it need not have moved.
    if (!dryRun) await records.forgetKeys(keys)
  }
  return { files, fileBytes, hints }
}

/** Undefined when it is gone: whoever left it was not done yet. */
async function lengthOf({ fileSystem }: PayloadDisk, path: string): Promise<number | undefined> {
  try {
    const file = await fileSystem.open(path, 'r')
    const { size } = await file.stat().finally(() => file.close())
    return size
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
