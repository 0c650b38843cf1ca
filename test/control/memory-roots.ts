// The root calls of a NodeApi in memory: they keep what was handed in, and believe it.
import { CatalogError } from '../../src/base/errors.ts'
import type { NoticeRequest, NoticeResult, RootsApi } from '../../src/control/roots-api.ts'

export class MemoryRoots implements RootsApi {
  readonly taken: string[] = []

  async current() {
    const fingerprint = `b${'a'.repeat(55)}`
    return {
      ...{ version: 1, fingerprint, network: fingerprint },
      ...{ document: 'AAAA', authorities: [], roots: ['AAAA'] },
    }
  }

  async accept({ document }: NoticeRequest): Promise<NoticeResult> {
    if (document === 'AAAA') throw new CatalogError('certificate-malformed', 'The notice is malformed.')
    if (this.taken.includes(document)) return { outcome: 'known' }
    this.taken.push(document)
    return { outcome: 'added' }
  }
}
