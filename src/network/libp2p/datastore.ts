// Where libp2p and the DHT keep their state: LevelDB in a directory of their own. It is a cache of hints: when the
// disk does not let it open, the node runs on memory and says so.
import { LevelDatastore } from 'datastore-level'
import type { Log } from '../../base/log.ts'
import type { Datastore } from './node.ts'

export interface OpenDatastore {
  /** Undefined: let libp2p use its own, in memory. */
  readonly datastore: Datastore | undefined
  close(): Promise<void>
}

/** Small buffers: a few megabytes of hints need no more, and every node pays for them while idle. In bytes. */
const levelOptions = { cacheSize: 1024 * 1024, writeBufferSize: 1024 * 1024 }

export async function openDatastore(directory: string | undefined, log: Log): Promise<OpenDatastore> {
  const memory = { datastore: undefined, close: async () => undefined }
  if (directory === undefined) return memory
  const store = new LevelDatastore(directory, levelOptions)
  try {
    await store.open()
  } catch (err) {
    log.warn({ err, directory }, 'the network cache does not open; running on memory')
    return memory
  }
  return { datastore: store as unknown as Datastore, close: () => store.close() }
}
