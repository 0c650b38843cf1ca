import { beforeAll, describe, expect, it } from 'vitest'
import type { HeadStatement, ReleaseStatement } from '../../src/assets/release.ts'
import { CatalogError } from '../../src/base/errors.ts'
import { recordUnder, selectRecord, validateRecord } from '../../src/flows/dht-records.ts'
import type { RecordKey } from '../../src/network/router.ts'
import { type EnvelopeSigner, sealStatement } from '../../src/trust/envelope.ts'
import { catalogueOf, good, networkName, newSigner, verifier } from './nodes.ts'

const day = 24 * 3600 * 1000
const root = 'bafyr4ianzvzej3jom3nd7nnoozw5eqxxzbjvr2ab3sypdgxky52it6pigm'
const takeNotice = async () => Promise.reject(new CatalogError('bad-record', 'no notice'))
const proving = { network: networkName, now: Date.now, verifier, standing: good }
let signer: EnvelopeSigner
let other: EnvelopeSigner

beforeAll(async () => {
  signer = await newSigner()
  other = await newSigner()
})

const releaseBy = (who: EnvelopeSigner) =>
  sealStatement<ReleaseStatement>(
    {
      ...{
        type: 'release',
        network: networkName,
        publisher: who.fingerprint,
        name: 'kept',
        version: '1.0.0',
        root,
      },
      ...{ size: 0, files: 0, blake3: new Uint8Array(32), sha256: new Uint8Array(32) },
      ...{ manifestPath: 'catalog.yaml', signedAt: Date.now() },
    },
    who,
  )

const headBy = async (who: EnvelopeSigner, sequence: number, expiresAt = Date.now() + day) =>
  sealStatement<HeadStatement>(
    {
      ...{ type: 'head', network: networkName, publisher: who.fingerprint, name: 'kept', sequence },
      ...(sequence === 1 ? {} : { previous: root }),
      ...{ versions: [], signedAt: Date.now(), expiresAt },
    },
    who,
  )

const headKey = (publisher: string, name = 'kept'): RecordKey => ({ kind: 'head', publisher, name })

describe('what the DHT may keep', () => {
  it('is a proved record under its own key', async () => {
    const deps = { proving, takeNotice, catalogue: catalogueOf() }
    const release = await releaseBy(signer)
    const head = await headBy(signer, 1)
    await validateRecord(deps, { kind: 'release', id: release.id }, release.bytes)
    await validateRecord(deps, headKey(signer.fingerprint), head.bytes)
  })

  it('is nothing under a wrong key, forged, expired, of another network, or oversize', async () => {
    const deps = { proving, takeNotice, catalogue: catalogueOf() }
    const release = await releaseBy(signer)
    const head = await headBy(signer, 1)
    const forged = Uint8Array.from(head.bytes)
    forged[forged.length - 200] = (forged[forged.length - 200] as number) ^ 1
    const expired = await headBy(signer, 1, Date.now() - 1)
    const elsewhere = { ...deps, proving: { ...proving, network: 'elsewhere' } }
    const refused: [typeof deps, RecordKey, Uint8Array, string][] = [
      [deps, { kind: 'release', id: head.id }, release.bytes, 'bad-record'],
      [deps, { kind: 'release', id: head.id }, head.bytes, 'bad-record'],
      [deps, headKey(other.fingerprint), head.bytes, 'bad-record'],
      [deps, headKey(signer.fingerprint, 'another'), head.bytes, 'bad-record'],
      [deps, headKey(signer.fingerprint), release.bytes, 'bad-record'],
      [deps, headKey(signer.fingerprint), forged, 'bad-signature'],
      [deps, headKey(signer.fingerprint), expired.bytes, 'stale-record'],
      [elsewhere, headKey(signer.fingerprint), head.bytes, 'bad-record'],
      [deps, headKey(signer.fingerprint), new Uint8Array(200_000), 'bad-record'],
    ]
    for (const [given, key, value, code] of refused)
      await expect(validateRecord(given, key, value)).rejects.toMatchObject({ code })
  })

  it('is no head older than one that is known here, and the highest of several', async () => {
    const catalogue = catalogueOf()
    await catalogue.start()
    const [first, second] = [await headBy(signer, 1), await headBy(signer, 2)]
    await catalogue.addHead(second)
    const key = headKey(signer.fingerprint)
    await expect(validateRecord({ proving, takeNotice, catalogue }, key, first.bytes)).rejects.toMatchObject({
      code: 'stale-record',
    })
    await validateRecord({ proving, takeNotice, catalogue }, key, second.bytes)
    expect(selectRecord(key, [first.bytes, second.bytes, first.bytes])).toBe(1)
    expect(await recordUnder({ catalogue }, key)).toEqual(second.bytes)
    expect(await recordUnder({ catalogue }, headKey(other.fingerprint))).toBeUndefined()
  })
})
