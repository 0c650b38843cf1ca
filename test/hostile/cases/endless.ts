// Endless data: more than anybody could want, in every place that has room for it.
import { encodeCbor } from '../../../src/base/cbor.ts'
import { cidOf } from '../../../src/base/cid.ts'
import { encodeFrame, type Message } from '../../../src/network/frames.ts'
import type { ByteStream } from '../../../src/network/host.ts'
import { signDocument } from '../../../src/trust/document.ts'
import { encodeRootBody } from '../../../src/trust/root.ts'
import { day, goldenRoot, keysOf, rootBody, signers } from '../../trust/test-network.ts'
import { nextHead, nextRelease, repack, seal, sealBytes } from '../attacker.ts'
import { type Case, record } from '../case.ts'
import { signerOf, tool } from '../node.ts'
import { publisher, withCertificate } from '../people.ts'
import type { World } from '../world.ts'

const key = 'the key of the publisher'
const wire = 'a connection'

const versions = (count: number, id = cidOf(Buffer.from('x'))) =>
  Array.from({ length: count }, (_, at) => ({ version: `0.0.${at}`, id }))

/** Lists in lists, or maps in maps under the key "a", as bytes: encoding them would overflow the stack of whoever does. */
const nested = (what: 'lists' | 'maps', depth: number): Uint8Array =>
  Buffer.concat([Buffer.from((what === 'lists' ? '81' : 'a16161').repeat(depth), 'hex'), Buffer.from([0x80])])

/** A release whose manifest is these bytes. */
async function releaseWith(world: World, manifest: Uint8Array): Promise<Uint8Array> {
  const marker = '#place-of-the-manifest#'
  const bytes = Buffer.from(encodeCbor({ v: 1, ...nextRelease(world), manifest: marker }))
  const place = Buffer.from(encodeCbor(marker))
  const at = bytes.indexOf(place)
  const statement = Buffer.concat([bytes.subarray(0, at), manifest, bytes.subarray(at + place.byteLength)])
  return sealBytes('release', statement, publisher(world))
}

/** A peer that answers the question for a name as no honest one does. */
const answers = (
  name: string,
  says: RegExp,
  harm: (stream: ByteStream, world: World) => Promise<void>,
): Case => ({
  name,
  has: wire,
  code: 'bad-peer-message',
  says,
  async play(world, evil, attacker) {
    if (evil)
      attacker.misbehave = (question: Message, stream: ByteStream) =>
        question['op'] === 'heads' ? harm(stream, world) : undefined
    return { does: () => world.client.sync.ask(attacker.peer, { name: tool }, {}) }
  },
})

async function rootOf(body: Uint8Array): Promise<Uint8Array> {
  const by = [signers['root-1'], signers['root-2']]
  return (await signDocument('catalog/root/v1', body, by)).bytes
}

const secondRoot = (changes: Record<string, unknown> = {}) =>
  rootOf(
    encodeRootBody({
      ...rootBody({ version: 2, previous: goldenRoot.fingerprint }),
      ...changes,
    } as ReturnType<typeof rootBody>),
  )

export const endless: readonly Case[] = [
  record(
    'a head of a million versions',
    key,
    'bad-record',
    async (world, evil) => {
      const { versions: listed } = world.heads[1].statement
      // 64 MiB would not pass a frame: as many as a frame takes.
      const many = [...listed, ...versions(evil ? 2_500 : 900)]
      return seal(nextHead(world, { versions: many }), publisher(world))
    },
    { says: /bytes; at most 131072/ },
  ),
  record(
    'a head of one version too many',
    key,
    'bad-record',
    async (world, evil) => {
      const { versions: listed } = world.heads[1].statement
      return seal(nextHead(world, { versions: [...listed, ...versions(evil ? 999 : 998)] }), publisher(world))
    },
    { ways: ['sync', 'dht'], says: /list of at most 1000/ },
  ),
  record(
    'a release with a manifest beyond all bounds',
    key,
    'bad-record',
    (world, evil) => {
      const release = nextRelease(world)
      const { spec, ...rest } = release.manifest as { spec: object }
      const description = 'x'.repeat(evil ? 140_000 : 4_000)
      return seal({ ...release, manifest: { ...rest, spec: { ...spec, description } } }, publisher(world))
    },
    { says: /bytes; at most 131072/ },
  ),
  ...(
    [
      ['lists', 1_000],
      ['lists', 100_000],
      ['maps', 1_000],
      // Deep enough that they can be decoded and not encoded.
      ['maps', 4_000],
    ] as const
  ).map(([what, depth]) =>
    record(
      `a manifest of ${what} in ${what}, ${depth} deep`,
      key,
      'bad-record',
      async (world, evil) =>
        evil ? releaseWith(world, nested(what, depth)) : seal(nextRelease(world), publisher(world)),
      { ways: ['sync', 'dht'] },
    ),
  ),
  record(
    'a record of nothing but lists in lists',
    wire,
    'bad-record',
    async (world, evil) => (evil ? nested('lists', 100_000) : seal(nextHead(world), publisher(world))),
    { ways: ['sync', 'dht'] },
  ),
  record(
    'a chain of nine certificates',
    key,
    'bad-record',
    async (world, evil) => {
      const signer = publisher(world)
      const chain = evil
        ? Array.from({ length: 9 }, () => world.publisher)
        : [world.publisher, world.authority]
      return seal(nextHead(world), { ...signer, chain: chain.map(({ bytes }) => bytes) })
    },
    { ways: ['sync', 'dht'], says: /chain is not a list of at most 8/ },
  ),
  record(
    'a chain of large certificates',
    key,
    'certificate-malformed',
    async (world, evil) => {
      const signer = await withCertificate(world, {
        extensions: { padding: new Uint8Array(evil ? 20_000 : 12_000) },
      })
      const [leaf, above] = signer.chain as [Uint8Array, Uint8Array]
      return seal(nextHead(world), { ...signer, chain: evil ? [leaf, leaf, above] : [leaf, above] })
    },
    { ways: ['sync', 'dht'], says: /chain of 3 certificates/ },
  ),
  record(
    'a certificate that is too large',
    'the key of an authority',
    'certificate-malformed',
    async (world, evil) => {
      const signer = signerOf('publisher', [world.publisher, world.authority])
      const large = Buffer.concat([world.publisher.bytes, Buffer.alloc(25_000)])
      return seal(nextHead(world), evil ? { ...signer, chain: [large, world.authority.bytes] } : signer)
    },
    { ways: ['sync', 'dht'], says: /at most 24576/ },
  ),
  record(
    'a certificate of a thousand names',
    'the key of an authority',
    'certificate-malformed',
    async (world, evil) => {
      const names = Array.from({ length: evil ? 65 : 64 }, (_, at) => `acme/t${at}`).sort()
      names[0] = 'acme/*'
      const body = { ...bodyOf(world), names }
      return seal(nextHead(world), await signedBy(world, body))
    },
    { ways: ['sync', 'dht'], says: /names is not a list of at most 64/ },
  ),
  record(
    'nine signatures',
    key,
    'bad-record',
    async (world, evil) => {
      const head = await seal(nextHead(world), publisher(world))
      return evil
        ? repack(head, ({ signatures: [one, two] }) => ({
            signatures: [one, two, one, one, one, one, one, one, one],
          }))
        : head
    },
    { ways: ['sync', 'dht'], says: /signatures is not a list of at most 8/ },
  ),
  record(
    'a list that revokes a thousand and one',
    'the key of an authority',
    'certificate-malformed',
    async ({ authority: above, clock }, evil) => {
      const base = goldenRoot.fingerprint.slice(0, 52)
      const digits = 'abcdefghijklmnopqrstuvwxyz234567'
      const all = [...digits].flatMap(a => [...digits].map(b => `${base}${a}${b}aa`)).sort()
      const revoked = all
        .slice(0, evil ? 1001 : 900)
        .map(certificate => ({ certificate, at: 0, reason: 'x' }))
      const body = encodeCbor({
        ...{ v: 1, type: 'revocations', network: above.network, issuer: above.fingerprint, sequence: 2 },
        ...{ issuedAt: clock.now, expiresAt: clock.now + day, revoked, chain: [above.bytes] },
      })
      return (await signDocument('catalog/revocations/v1', body, [signers.authority])).bytes
    },
    { says: /list of at most 1000|at most/, recover: world => world.renewList([], 3) },
  ),
  record(
    'a root of thirteen keys',
    'the root keys that are needed',
    'certificate-malformed',
    async (_, evil) => {
      const { keys } = goldenRoot
      const { falcon } = keysOf('root-1')
      if (!evil) return secondRoot()
      const more = Array.from({ length: 10 }, (_each, at) => ({
        ed25519: new Uint8Array(32).fill(at + 1),
        falcon: falcon.map((byte, place) => (place === 9 ? at : byte)),
      }))
      return secondRoot({ keys: [...keys, ...more] })
    },
    { says: /keys is not a list of at most 12/ },
  ),
  ...(
    [
      ['a reason that goes on and on', 'x'.repeat(201)],
      ['a reason that writes to the terminal', '\u001b[2J'],
    ] as const
  ).map(([name, yanked]) =>
    record(
      name,
      key,
      'bad-record',
      async (world, evil) => {
        const [first, ...rest] = world.heads[1].statement.versions
        const listed = { version: '1.0.0', id: world.releases[0].id, yanked: evil ? yanked : 'x'.repeat(200) }
        return seal(
          nextHead(world, { versions: first === undefined ? [] : [listed, ...rest] }),
          publisher(world),
        )
      },
      { ways: ['sync', 'dht'], says: /yanked/ },
    ),
  ),
  answers('a frame that announces 200 MiB', /a message of 209715200 bytes/, async stream =>
    stream.write(Buffer.from([0x80, 0x80, 0x80, 0x64])),
  ),
  answers('a length that never ends', /length of more than four bytes/, async stream =>
    stream.write(Buffer.alloc(64 * 1024, 0xff)),
  ),
  answers('a thousand records for one name', /no valid records/, async (stream, world) =>
    stream.write(
      encodeFrame({ records: Array.from({ length: 1000 }, () => world.heads[0].bytes.slice(0, 1000)) }),
    ),
  ),
  answers('a record of half a mebibyte', /no record/, async stream =>
    stream.write(encodeFrame({ records: [new Uint8Array(512 * 1024)] })),
  ),
  answers('an answer that breaks off', /middle of a message/, async stream => {
    await stream.write(encodeFrame({ records: [new Uint8Array(1000)] }).subarray(0, 500))
    await stream.close()
  }),
]

const bodyOf = ({ publisher: certificate }: World) => {
  const { network, serial, subject, issuer, notBefore, notAfter, publisher: id, rights } = certificate
  return {
    ...{
      v: 1,
      type: 'publisher',
      network,
      serial,
      subject,
      issuer,
      notBefore,
      notAfter,
      publisher: id,
      rights,
    },
    ...{ critical: {}, extensions: {} },
  }
}

async function signedBy({ authority }: World, body: Record<string, unknown>) {
  const { bytes } = await signDocument('catalog/certificate/v1', encodeCbor(body), [signers.authority])
  return signerOf('publisher', [{ bytes }, authority])
}
