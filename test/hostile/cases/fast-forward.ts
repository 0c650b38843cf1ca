// Fast-forward: a number so high that no news can follow it.
import { decodeEnvelope } from '../../../src/assets/release.ts'
import { encodeCbor } from '../../../src/base/cbor.ts'
import { authority, day, goldenRoot, keysOf, nextRoot, now, revocations } from '../../trust/test-network.ts'
import { freshnessOf, nextHead, seal, sealBytes } from '../attacker.ts'
import { type Case, last, record } from '../case.ts'
import { delegate, publisher, recoverKeys, withCertificate } from '../people.ts'
import type { World } from '../world.ts'

const key = 'the key of the publisher'

export const fastForward: readonly Case[] = [
  {
    name: 'the highest number there is, by a stolen key that was revoked',
    has: `${key}, stolen`,
    code: 'certificate-revoked',
    says: /revoked \(key stolen\)/,
    ways: ['sync', 'dht'],
    async play(world, evil) {
      const head = await seal(nextHead(world, { sequence: Number.MAX_SAFE_INTEGER }), publisher(world))
      if (!evil) return { shows: [head] }
      // While nobody knows that it is stolen, everybody believes it.
      await world.client.accept(head)
      await recoverKeys(world)
      return { shows: [head] }
    },
  },
  {
    name: 'the highest number there is, by a key whose certificate has expired',
    has: `${key} of last year; it backdates`,
    code: 'certificate-expired',
    says: /certificate has expired/,
    ways: ['sync', 'dht'],
    async play(world, evil) {
      const signer = await withCertificate(world, { notAfter: now + (evil ? 10 : 20) * day })
      const head = await seal(nextHead(world, { sequence: Number.MAX_SAFE_INTEGER }), signer)
      world.clock.now += 15 * day
      return { shows: [head] }
    },
  },
  {
    name: 'a root that nobody can prove yet, in the DHT',
    has: 'no key at all',
    code: 'root-not-trusted',
    says: /before it is not known/,
    ways: ['dht'],
    async play(_, evil) {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      const third = await nextRoot(second, {}, ['stranger'])
      return { shows: [evil ? third.bytes : second.bytes] }
    },
  },
  record(
    'a number that is no safe integer',
    key,
    'bad-record',
    async (world, evil) => {
      const head = { v: 1, ...nextHead(world) }
      return sealBytes('head', encodeCbor(evil ? { ...head, sequence: 2n ** 53n } : head), publisher(world))
    },
    { ways: ['sync', 'dht'], says: /natural number|not DAG-CBOR/ },
  ),
  record(
    'a root that is far ahead',
    'one root key',
    'root-not-trusted',
    async (_, evil) => {
      const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
      return evil ? (await nextRoot(second, { version: 1000 }, ['root-1'])).bytes : second.bytes
    },
    { ways: ['sync', 'dht'], says: /far ahead/ },
  ),
  last('a root that waits for the one before it', 'one root key', 'root-threshold', async (_, evil) => {
    const second = await nextRoot(goldenRoot, {}, ['root-1', 'root-2'])
    const third = await nextRoot(second, {}, evil ? ['root-1'] : ['root-1', 'root-2'])
    return evil ? [third.bytes, second.bytes, third.bytes] : [second.bytes, third.bytes]
  }),
  {
    name: 'the highest number of a list, by a stolen authority that the root has revoked',
    has: 'the key of an authority, stolen',
    code: 'certificate-revoked',
    says: /by the root/,
    ways: ['sync', 'dht'],
    async play(_, evil) {
      const above = await authority({ subject: keysOf('region') })
      const changes = { sequence: Number.MAX_SAFE_INTEGER }
      const list = await revocations(above, [above], changes, 'region')
      const root = await nextRoot(goldenRoot, { revoked: [above.fingerprint] }, ['root-1', 'root-2'])
      return { shows: [...(evil ? [root.bytes] : []), list.bytes] }
    },
  },
  {
    name: 'a freshness statement for a head that is still to come',
    has: 'the right to freshen',
    code: 'stale-record',
    says: /another head/,
    async play(world, evil) {
      const signer = await delegate(world, { rights: ['freshen'] })
      const head = nextHead(world)
      const [good, bad] = await Promise.all(
        [head, { ...head, deprecated: 'gone' }].map(each => seal(each, publisher(world))),
      )
      const about = decodeEnvelope((evil ? bad : good) as Uint8Array) as World['heads'][0]
      const fresh = await seal(freshnessOf(world, about), signer)
      // It waits for its head, and is not that of another under the same number.
      return { shows: [fresh, good as Uint8Array, ...(evil ? [fresh] : [])] }
    },
    recover: async world => world.repository.accept((await world.client.head()).bytes),
  },
]
