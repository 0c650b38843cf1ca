import { MemoryContentStore } from '../../src/store/memory-content-store.ts'
import { contentStoreConformance } from '../conformance/content-store.ts'

contentStoreConformance('memory', async () => ({
  store: new MemoryContentStore(),
  close: async () => undefined,
}))
