import { idOf, keysOf, publisherCertificate } from '../../trust/test-network.ts'
import { firstHead, nextHead, seal } from '../attacker.ts'
import { type Case, head, record, type SignerFor } from '../case.ts'
import { signerOf, tool } from '../node.ts'
import { decodeLeaf, delegate, issued, mallory, underAuthority, withCertificate } from '../people.ts'

const grantsNot = (name: string, has: string, signer: SignerFor): Case =>
  head(name, has, 'certificate-name-not-granted', signer)

export const names: readonly Case[] = [
  record(
    'a name that was granted to another',
    'the key of another publisher',
    'certificate-name-not-granted',
    (world, evil) => {
      const { previous: _, ...first } = nextHead(world, {
        sequence: 1,
        publisher: idOf('stranger'),
        versions: [],
      })
      return seal(evil ? first : { ...first, name: 'mallory/tool' }, mallory(world))
    },
    { ways: ['sync', 'dht'] },
  ),
  grantsNot('a scope without its slash', 'a certificate for acme-*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'acme-*' : 'acme/*'] }),
  ),
  grantsNot('a prefix that ends before the slash', 'a certificate for a*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'a*' : '*'] }),
  ),
  grantsNot('a prefix that is the name itself', 'a certificate for acme/tool*', (world, evil) =>
    withCertificate(world, { names: [evil ? 'acme/tool*' : 'acme/too*'] }),
  ),
  grantsNot('a certificate for no names', 'a certificate of who just joined', (world, evil) =>
    withCertificate(world, { names: evil ? [] : [tool] }),
  ),
  grantsNot(
    'a second machine with more names than the first',
    'the key of a publisher that may delegate',
    (world, evil) => delegate(world, { names: evil ? ['*'] : ['acme/*'] }),
  ),
  grantsNot(
    'a second machine with a longer prefix over the slash',
    'the key of a publisher that may delegate',
    async (world, evil) => {
      const leaf = await withCertificate(world, { names: evil ? ['acme/to*'] : ['acme/*'] })
      const above = decodeLeaf(leaf)
      const certificate = await publisherCertificate(
        above,
        { subject: keysOf('delegate'), names: ['acme/t*'] },
        ['publisher'],
      )
      return { ...signerOf('delegate', []), chain: [certificate.bytes, ...(leaf.chain ?? [])] }
    },
  ),
  grantsNot(
    'a publisher with more names than its authority',
    'the key of an authority for beta/*',
    async (_, evil) => (await underAuthority({ names: [evil ? 'beta/*' : 'acme/*'] })).signer,
  ),
  ...(['**', 'acme/*/x', 'ACME/*', '../*', 'acme/*\u0000', ''] as const).map(pattern =>
    head(
      `a pattern that is none: ${JSON.stringify(pattern)}`,
      'the key of an authority that signs anything',
      'certificate-malformed',
      (world, evil) => issued(world, { names: [evil ? pattern : 'acme/*'] }),
    ),
  ),
  ...(['Acme/tool', 'acme/tool/', 'acme/\u0442ool', '../tool', 'acme//tool', '__proto__'] as const).map(
    name =>
      record(
        `a name that is none: ${JSON.stringify(name)}`,
        'a certificate for every name',
        'bad-record',
        async (world, evil) =>
          seal(
            firstHead(world, evil ? name : 'acme/plain', []),
            await withCertificate(world, { names: ['*'] }),
          ),
        { says: /not a package name/ },
      ),
  ),
]
