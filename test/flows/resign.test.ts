// Heads signed anew after the publisher's keys were rotated: over a real catalogue, with certificates for both keys.
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import type { HeadStatement, ListedVersion, ReleaseStatement } from '../../src/assets/release.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { resignHeads } from '../../src/flows/resign.ts'
import { OwnCatalogue } from '../../src/own-catalogue.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { type EnvelopeSigner, sealStatement } from '../../src/trust/envelope.ts'
import { PublisherIdentities } from '../../src/trust/publisher-identities.ts'
import { Signer } from '../../src/trust/signer.ts'
import { authority, idOf, keysOf, publisherCertificate, signers } from '../trust/test-network.ts'

const publisher = idOf('publisher')
const name = 'acme/tool'
const now = Date.now()
const day = 24 * 3600 * 1000
const root = 'bafyr4ianzvzej3jom3nd7nnoozw5eqxxzbjvr2ab3sypdgxky52it6pigm'

const oldSigner = new Signer({ keys: signers.publisher.keys })
const newSigner = oldSigner.withKeys(signers.region.keys)
const above = await authority()
const chains = [
  [await publisherCertificate(above), above],
  [await publisherCertificate(above, { subject: keysOf('region') }), above],
].map(chain => chain.map(({ bytes }) => bytes)) as [Uint8Array[], Uint8Array[]]
afterAll(() => oldSigner.stop())

let catalogue: Catalogue
let own: OwnCatalogue
let identities: PublisherIdentities
let announced: string[]

beforeEach(async () => {
  catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
  await catalogue.start()
  own = new OwnCatalogue({ catalogue, records: new MemoryKeyValue() })
  identities = new PublisherIdentities({ signer: oldSigner }, { own: chains[0], delegations: [] })
  announced = []
})

const mine = () => identities.list()[0] as EnvelopeSigner

async function release(version: string, by = mine()): Promise<ListedVersion> {
  const digest = new Uint8Array(32)
  const envelope = await sealStatement<ReleaseStatement>(
    {
      ...{ type: 'release', network: 'catalog', publisher, name, version, root, size: 0, files: 0 },
      ...{ blake3: digest, sha256: digest, manifestPath: 'catalog.yaml', signedAt: now },
    },
    by,
  )
  await catalogue.addRelease(envelope)
  return { version, id: envelope.id }
}

const head = (sequence: number, versions: readonly ListedVersion[], previous?: string, by = mine()) =>
  sealStatement<HeadStatement>(
    {
      ...{ type: 'head', network: 'catalog', publisher, name, sequence, versions },
      ...(previous === undefined ? {} : { previous }),
      ...{ signedAt: now, expiresAt: now + 30 * day },
    } as HeadStatement,
    by,
  )

const rotate = () => identities.rotate(newSigner, chains[1])
const resign = (distrusted = false) =>
  resignHeads(
    {
      ...{ network: 'catalog', publisher, now: () => now, catalogue: own, signs: () => true },
      seal: statement => sealStatement(statement, mine()),
      askPeers: async () => undefined,
      exclusively: (_name, work) => work(),
      announceHead: async (_publisher, each) => void announced.push(each),
    },
    { key: keysOf('publisher').ed25519, distrusted },
  )
const current = async () => (await catalogue.head(publisher, name))?.statement

describe('after a rotation', () => {
  test('every head goes on with the next number, and nothing in it changes', async () => {
    const one = await release('1.0.0')
    const first = await head(1, [one])
    await own.addHead(first, { unseen: true })
    rotate()
    expect(await resign()).toEqual({ heads: 1, warnings: [] })
    expect(await current()).toMatchObject({ sequence: 2, previous: first.id, versions: [one] })
    expect((await catalogue.head(publisher, name))?.signatures[0]?.key).toEqual(keysOf('region').ed25519)
    expect(announced).toEqual([name])
  })

  test('a name that is held back, because one key signed two heads of one number, is free again', async () => {
    const one = await release('1.0.0')
    const two = await release('2.0.0')
    await own.addHead(await head(1, [one]), { unseen: true })
    const other = await head(1, [two])
    await expect(catalogue.addHead(other)).rejects.toMatchObject({ code: 'equivocation' })
    expect(await catalogue.contradictions(publisher, name)).toHaveLength(1)
    // With the key that signed both, another head changes nothing.
    await resign()
    expect(await catalogue.contradictions(publisher, name)).toHaveLength(1)
    rotate()
    const { heads, warnings } = await resign()
    expect(heads).toBe(1)
    expect(await catalogue.contradictions(publisher, name)).toEqual([])
    expect((await current())?.versions).toEqual([one, two])
    // This node has listed it in the meantime: nobody is asked twice.
    expect(warnings).toEqual([])
  })

  test('what others signed with the old keys is told, and yanked where they are distrusted', async () => {
    const one = await release('1.0.0')
    const first = await head(1, [one])
    await own.addHead(first, { unseen: true })
    const stolen = await release('6.6.6')
    await catalogue.addHead(await head(2, [one, stolen], first.id))
    rotate()
    const { warnings } = await resign(true)
    expect(warnings).toEqual([
      expect.stringMatching(/^acme\/tool 6\.6\.6 was signed with the old keys.*yanked now.*--revoke/),
    ])
    expect((await current())?.versions).toEqual([
      one,
      { ...stolen, yanked: expect.stringMatching(/keys that were replaced/) },
    ])
  })

  test('and listed on where they are not', async () => {
    const stolen = await release('6.6.6')
    await catalogue.addHead(await head(1, [stolen]))
    rotate()
    expect((await resign()).warnings).toEqual([expect.stringMatching(/6\.6\.6.*but not by this node\. If/)])
    expect((await current())?.versions).toEqual([stolen])
  })

  test('a head that was dropped comes back with what this node listed, and without what a thief did', async () => {
    const one = await release('1.0.0')
    const first = await head(1, [one])
    await own.addHead(first, { unseen: true })
    await catalogue.addHead(await head(2, [one, await release('6.6.6')], first.id))
    await catalogue.dropHeads(() => true)
    expect(await current()).toBeUndefined()
    rotate()
    expect(await resign(true)).toEqual({ heads: 1, warnings: [] })
    expect(await current()).toMatchObject({ sequence: 2, previous: first.id, versions: [one] })
  })

  test('a name without a head stays without, and one that fails is told', async () => {
    await release('1.0.0')
    rotate()
    expect(await resign()).toEqual({ heads: 0, warnings: [] })
    await catalogue.addHead(await head(1, [await release('1.1.0')]))
    own.addHead = () => Promise.reject(new Error('the disk failed'))
    const { heads, warnings } = await resign()
    expect([heads, warnings]).toEqual([
      0,
      [expect.stringMatching(/acme\/tool was not signed anew: the disk failed/)],
    ])
  })
})

test('delegations to the keys of before are left out, and told', () => {
  const fresh = new PublisherIdentities({ signer: newSigner }, { own: chains[1], delegations: [chains[0]] })
  expect(fresh.list()).toHaveLength(1)
  expect(fresh.signer.publicKeys).toEqual(keysOf('region'))
})
