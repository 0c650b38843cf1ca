import { beforeAll, describe, expect, it } from 'vitest'
import {
  encodeEnvelope,
  encodeStatement,
  type HeadStatement,
  type ReleaseStatement,
  type Statement,
} from '../../src/assets/release.ts'
import { cidOf } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { accept } from '../../src/flows/accept.ts'
import type { StandingOf } from '../../src/flows/standing.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { sealStatement } from '../../src/trust/envelope.ts'
import type { Signer } from '../../src/trust/signer.ts'
import { catalogueOf, good, networkName, newSigner, refuseNotice, verifier } from './nodes.ts'

let signer: Signer
let other: Signer
beforeAll(async () => {
  signer = await newSigner()
  other = await newSigner()
})

const now = Date.UTC(2026, 0, 1)
const day = 24 * 3600 * 1000
const root = cidOf(new Uint8Array(3))
const manifestOf = (name: string, version: string) => ({
  apiVersion: 'catalog.v1',
  kind: 'AssetPackage',
  metadata: { name, version },
  spec: { description: 'x' },
})

const release = (fields: Partial<ReleaseStatement> = {}): ReleaseStatement =>
  ({
    ...{
      type: 'release',
      network: networkName,
      publisher: signer.fingerprint,
      name: 'it',
      version: '1.0.0',
      root,
      size: 0,
      files: 0,
    },
    ...{
      blake3: new Uint8Array(32),
      sha256: new Uint8Array(32),
      manifestPath: 'catalog.yaml',
      manifest: manifestOf('it', '1.0.0'),
      signedAt: now,
    },
    ...fields,
  }) as ReleaseStatement

const head = (fields: Partial<HeadStatement> = {}): HeadStatement =>
  ({
    ...{
      type: 'head',
      network: networkName,
      publisher: signer.fingerprint,
      name: 'it',
      sequence: 1,
      versions: [{ version: '1.0.0', id: root }],
      signedAt: now,
      expiresAt: now + day,
    },
    ...fields,
  }) as HeadStatement

const seal = async <S extends Statement>(statement: S, by = signer) =>
  (await sealStatement(statement, by)).bytes

function setUp() {
  const catalogue = catalogueOf()
  return {
    catalogue,
    take: (bytes: Uint8Array) =>
      accept(
        {
          ...{ network: networkName, now: () => now, verifier, standing: good, catalogue },
          acceptNotice: refuseNotice,
          onRefusedHead: () => undefined,
        },
        bytes,
      ),
  }
}

describe('accepting a record', () => {
  it('makes a proved release and head durable; again it changes nothing', async () => {
    const { catalogue, take } = setUp()
    const [r, h] = [await seal(release()), await seal(head())]
    for (let time = 0; time < 2; time++) for (const bytes of [r, h]) await take(bytes)
    expect(catalogue.count).toBe(1)
    expect(await catalogue.headsOf('it')).toHaveLength(1)
  })

  it.each<[string, () => Statement, string]>([
    ['of another network', () => release({ network: 'elsewhere' }), 'bad-record'],
    ['a head of another network', () => head({ network: 'elsewhere' }), 'bad-record'],
    ['signed in the future', () => release({ signedAt: now + 11 * 60_000 }), 'bad-record'],
    ['signed at the end of time', () => release({ signedAt: Number.MAX_SAFE_INTEGER }), 'bad-record'],
    ['a head signed in the future', () => head({ signedAt: now + 11 * 60_000 }), 'bad-record'],
    ['a head that is to live too long', () => head({ expiresAt: now + 31 * day }), 'bad-record'],
    [
      'whose manifest is of another name',
      () => release({ manifest: manifestOf('that', '1.0.0') }),
      'bad-record',
    ],
    [
      'whose manifest is of another version',
      () => release({ manifest: manifestOf('it', '1.0.1') }),
      'bad-record',
    ],
    ['whose manifest is no manifest', () => release({ manifest: { kind: 'AssetPackage' } }), 'bad-record'],
    ['whose manifest is null', () => release({ manifest: null }), 'bad-record'],
  ])('refuses one %s, though its signatures hold', async (_what, statement, code) => {
    const { catalogue, take } = setUp()
    await expect(seal(statement()).then(take)).rejects.toMatchObject({ code })
    expect([catalogue.count, await catalogue.headsOf('it')]).toEqual([0, []])
  })

  it('takes one signed a little ahead of this clock, and a release without a manifest inside', async () => {
    const { catalogue, take } = setUp()
    const { manifest: _, ...without } = release({ signedAt: now + 9 * 60_000 })
    await take(await seal(without as ReleaseStatement))
    expect(catalogue.count).toBe(1)
  })

  it('refuses every changed byte, every swapped signature, and what somebody else signed', async () => {
    const { catalogue, take } = setUp()
    const honest = await sealStatement(release(), signer)
    const { bytes } = honest
    for (let at = 0; at < bytes.byteLength; at += 97) {
      const changed = Uint8Array.from(bytes)
      changed[at] = (changed[at] as number) ^ 1
      await expect(take(changed)).rejects.toMatchObject({ code: expect.stringMatching(/^bad-/) })
    }
    const foreign = await sealStatement({ ...release(), publisher: other.fingerprint }, other)
    const forged = encodeEnvelope(honest.statement, encodeStatement(honest.statement), foreign.signatures)
    await expect(take(forged.bytes)).rejects.toMatchObject({ code: 'bad-signature' })
    const unsigned = encodeEnvelope(honest.statement, encodeStatement(honest.statement), [])
    await expect(take(unsigned.bytes)).rejects.toMatchObject({ code: 'bad-signature' })
    expect(catalogue.count).toBe(0)
    await take(bytes)
    expect(catalogue.count).toBe(1)
  })

  it('refuses noise, and a record that is too large', async () => {
    const { take } = setUp()
    for (const bytes of [
      new Uint8Array(0),
      new Uint8Array(10),
      new Uint8Array(200_000),
      Buffer.alloc(120_000, 0x81),
    ])
      await expect(take(bytes)).rejects.toMatchObject({ code: 'bad-record' })
  })

  it('takes what keys that were taken back signed only where a head lists it, or there is ample room', async () => {
    const { catalogue } = setUp()
    const other = cidOf(new Uint8Array(4))
    const [listed, unlisted] = [await seal(release()), await seal(release({ root: other }))]
    const revoked: StandingOf = ({ statement }) =>
      statement.type === 'release'
        ? { state: 'refused', code: 'certificate-revoked', why: 'Revoked.' }
        : { state: 'current' }
    const take = (bytes: Uint8Array, standing: StandingOf, into = catalogue) =>
      accept(
        {
          ...{ network: networkName, now: () => now, verifier, standing, catalogue: into },
          ...{ acceptNotice: refuseNotice, onRefusedHead: () => undefined },
        },
        bytes,
      )
    const refused = { code: 'not-listed', message: expect.stringMatching(/no known head lists it/) }
    await take(await seal(head({ versions: [{ version: '1.0.0', id: cidOf(listed) }] })), revoked)
    await expect(take(unlisted, revoked)).rejects.toMatchObject(refused)
    await take(listed, revoked)
    expect(catalogue.count).toBe(1)
    // Nobody knows yet what the head lists: kept while there is room, and never where it could take an own version.
    const small = new Catalogue(
      { records: new MemoryKeyValue(), log: silentLog },
      { maxRecordsPerPublisher: 2 },
    )
    await small.start()
    for (const version of ['1.0.0', '1.0.1'])
      await take(await seal(release({ version, manifest: manifestOf('it', version) })), revoked, small)
    const third = await seal(release({ version: '1.0.2', manifest: manifestOf('it', '1.0.2') }))
    await expect(take(third, revoked, small)).rejects.toMatchObject(refused)
    const own = new Catalogue(
      { records: new MemoryKeyValue(), log: silentLog },
      { ownPublisher: signer.fingerprint },
    )
    await own.start()
    await expect(take(listed, revoked, own)).rejects.toMatchObject(refused)
    await take(listed, good, own)
  })

  it('keeps no head that was revoked while it was stored, though all was looked at meanwhile', async () => {
    const stored = Promise.withResolvers<void>()
    const storing = Promise.withResolvers<void>()
    class SlowRecords extends MemoryKeyValue {
      override async batch(writes: Parameters<MemoryKeyValue['batch']>[0]): Promise<void> {
        storing.resolve()
        await stored.promise
        await super.batch(writes)
      }
    }
    const catalogue = new Catalogue({ records: new SlowRecords(), log: silentLog }, {})
    let isRevoked = false
    const refused = { state: 'refused', code: 'certificate-revoked', why: 'it was revoked' } as const
    const standing: StandingOf = envelope => (isRevoked ? refused : good(envelope))
    const deps = {
      ...{ network: networkName, now: () => now, verifier, standing, catalogue },
      acceptNotice: refuseNotice,
      onRefusedHead: () => undefined,
    }
    const taken = accept(deps, await seal(head()))
    await storing.promise
    isRevoked = true
    expect(await catalogue.dropHeads(record => standing(record).state === 'refused')).toEqual([])
    stored.resolve()
    await expect(taken).rejects.toMatchObject({ code: 'certificate-revoked' })
    expect(await catalogue.headsOf('it')).toEqual([])
  })

  it('keeps the later head, and takes the next after a refusal', async () => {
    const { catalogue, take } = setUp()
    const first = await sealStatement(head(), signer)
    const second = await sealStatement(head({ sequence: 2, previous: first.id }), signer)
    await take(first.bytes)
    await take(second.bytes)
    await expect(take(first.bytes)).rejects.toMatchObject({ code: 'stale-record' })
    const delisting = await seal(head({ sequence: 3, previous: second.id, versions: [] }))
    await expect(take(delisting)).rejects.toMatchObject({ code: 'head-delisted' })
    await take(
      await seal(
        head({
          sequence: 3,
          previous: second.id,
          versions: [
            { version: '1.0.0', id: root },
            { version: '1.1.0', id: root },
          ],
        }),
      ),
    )
    expect((await catalogue.headsOf('it'))[0]?.statement.sequence).toBe(3)
  })
})
