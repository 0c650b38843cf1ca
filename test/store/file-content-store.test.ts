import { join } from 'node:path'
import { silentLog } from '../../src/base/log.ts'
import { FileContentStore } from '../../src/store/file-content-store.ts'
import { LevelKeyValue } from '../../src/store/level-key-value.ts'
import { contentStoreConformance } from '../conformance/content-store.ts'
import { deleteDirectory, makeTemporaryDirectory } from './temporary-directory.ts'

contentStoreConformance('files and LevelDB', async () => {
  const directory = await makeTemporaryDirectory()
  const records = await LevelKeyValue.open({ directory: join(directory, 'db'), reserveBytes: 0 })
  const store = new FileContentStore({ records, log: silentLog }, { directory: join(directory, 'payloads') })
  await store.start()
  const close = async () => {
    await store.stop()
    await records.stop()
    await deleteDirectory(directory)
  }
  return { store, close }
})
