// The stores of the crash tests, and what must hold of them after a crash.
import { join } from 'node:path'
import { silentLog } from '../../src/base/log.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import type { FileSystem } from '../../src/store/file-system.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { nodeFileSystem } from '../../src/store/node-file-system.ts'

/** Says that everything is durable and makes nothing so: the control of the power cut. */
export const unsynced: FileSystem = {
  ...nodeFileSystem,
  open: async (path, flags, mode) => {
    const file = await nodeFileSystem.open(path, flags, mode)
    const nothing = async () => undefined
    return {
      read: (buffer, offset, length, position) => file.read(buffer, offset, length, position),
      write: (buffer, offset, length, position) => file.write(buffer, offset, length, position),
      stat: () => file.stat(),
      close: () => file.close(),
      datasync: nothing,
      sync: nothing,
    }
  },
}

export async function openStores(directory: string, fileSystem: FileSystem = nodeFileSystem) {
  const records = await LevelKeyValue.open({
    directory: join(directory, 'db'),
    reserveBytes: 0,
    lowWaterBytes: 0,
  })
  const store = new FileContentStore({ records, log: silentLog, fileSystem }, { directory, reserveBytes: 0 })
  await store.start()
  const close = async () => {
    await store.stop()
    await records.stop()
  }
  return { records, store, close }
}

/** What a worker said, as what must be here after it: the roots last acknowledged as complete. */
export class Acknowledged {
  readonly complete = new Set<string>()
  completions = 0

  /**
   * `untilMs`: when the power was cut. Linux may answer 0 to a sync that spans the shutdown of its file system, so a
   * completion said after the cut proves nothing; with a real cut nobody hears it.
   */
  hear(output: string, untilMs = Number.POSITIVE_INFINITY): void {
    // The last line may have been cut by the kill.
    for (const line of output.split('\n').slice(0, -1)) {
      const [what, root, time] = line.split(' ') as [string, string, string]
      if (what === 'ready' || (what === 'complete' && Number(time) >= untilMs)) continue
      // A removal that was under way may or may not have happened.
      this.complete.delete(root)
      if (what === 'complete') {
        this.complete.add(root)
        this.completions += 1
      }
    }
  }
}

/** Opens what a crash left, and says what is wrong with it. */
export async function inspect(directory: string, acknowledged: Acknowledged) {
  const start = performance.now()
  const { store, close } = await openStores(directory)
  const openMs = performance.now() - start
  const wrong: string[] = []
  for (const root of acknowledged.complete)
    if ((await store.state(root)) !== 'complete') wrong.push(`lost ${root}`)
  let roots = 0
  for await (const { root, complete } of store.roots()) {
    roots += 1
    if (complete && (await store.check(root)).length > 0) wrong.push(`damaged ${root}`)
  }
  await close()
  return { wrong, openMs, roots }
}
