// Packs a directory into a store of its own and prints the size packed and the most memory that took.
// Arguments: the directory, the store's.
import { join } from 'node:path'
import { packTree } from '../../src/assets/pack.ts'
import { scanFiles } from '../../src/assets/package-tree.ts'
import { silentLog } from '../../src/base/log.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'

const [directory, storeDirectory] = process.argv.slice(2) as [string, string]
const entries = await scanFiles(directory)
const records = await LevelKeyValue.open({ directory: join(storeDirectory, 'db'), reserveBytes: 0 })
const store = new FileContentStore(
  { records, log: silentLog },
  { directory: storeDirectory, reserveBytes: 0 },
)
await store.start()
const writer = await store.createWriter(0)
let peakBytes = 0
// Sampled: what getrusage(2) tells of a child begins with its parent's size.
const onProgress = () => {
  peakBytes = Math.max(peakBytes, process.memoryUsage.rss())
}
const index = await packTree(entries, writer, { onProgress })
await writer.commit(index)
await writer.abort()
await store.stop()
await records.stop()
process.stdout.write(JSON.stringify({ size: index.size, peakBytes }))
