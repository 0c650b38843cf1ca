import { describe, expect, it } from 'vitest'
import type { HeadStatement, Statement } from '../../src/assets/release.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { headLifetimeMs } from '../../src/flows/next-head.ts'
import { renewHeads } from '../../src/flows/renew.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { sealStatement } from '../../src/trust/envelope.ts'
import { generatePublisherKeys } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'

const day = 24 * 3600 * 1000
const digest = new Uint8Array(32)
const root = 'bafyr4ianzvzej3jom3nd7nnoozw5eqxxzbjvr2ab3sypdgxky52it6pigm'

describe('renewing heads', () => {
  it('signs a head anew at half of its life, and only then', async () => {
    const signer = new Signer({ keys: await generatePublisherKeys() })
    const seal = <S extends Statement>(statement: S) => sealStatement(statement, signer)
    const catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
    await catalogue.start()
    const common = { network: 'catalog', publisher: signer.fingerprint, name: 'kept', signedAt: 0 }
    const release = await seal({
      ...common,
      type: 'release',
      version: '1.0.0',
      root,
      size: 0,
      files: 0,
      blake3: digest,
      sha256: digest,
      manifestPath: 'catalog.yaml',
    })
    await catalogue.addRelease(release)
    const first = await seal<HeadStatement>({
      ...common,
      type: 'head',
      sequence: 1,
      versions: [{ version: '1.0.0', id: release.id }],
      expiresAt: headLifetimeMs,
    })
    await catalogue.addHead(first)
    const announced: string[] = []
    let now = 14 * day
    const deps = {
      ...{ network: 'catalog', publisher: signer.fingerprint, now: () => now, seal },
      signs: () => 'head' as const,
      askPeers: async () => undefined,
      catalogue,
      announceHead: async (_publisher: string, name: string) => void announced.push(name),
      exclusively: <T>(_name: string, work: () => Promise<T>) => work(),
    }
    expect(await renewHeads(deps)).toBe(0)
    now = 16 * day
    expect(await renewHeads(deps)).toBe(1)
    expect(await renewHeads(deps)).toBe(0)
    const head = await catalogue.head(signer.fingerprint, 'kept')
    expect(head?.statement).toMatchObject({
      sequence: 2,
      previous: first.id,
      versions: first.statement.versions,
      expiresAt: 46 * day,
    })
    expect(announced).toEqual(['kept'])
    await signer.stop()
  })
})
