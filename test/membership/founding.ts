// A network that was just founded, with the signer of its authority, for tests of what comes after.
import { afterAll } from 'vitest'
import { decodeChain } from '../../src/trust/certificate.ts'
import { foundNetwork } from '../../src/trust/founding.ts'
import { generatePublisherKeys } from '../../src/trust/keys.ts'
import { revocationLifetimeMs, signRevocations } from '../../src/trust/revocation-list.ts'
import { Signer } from '../../src/trust/signer.ts'
import { Verifier } from '../../src/trust/verifier.ts'

export type Founding = Awaited<ReturnType<typeof foundForTest>>

/** For the length of a file of tests. */
export async function foundForTest() {
  const [root, authority, node, publisher] = await Promise.all(
    Array.from({ length: 4 }, async () => new Signer({ keys: await generatePublisherKeys() })),
  )
  if (!root || !authority || !node || !publisher) throw new Error('four signers were asked for')
  const verifier = new Verifier({ proveStatement: async () => undefined })
  afterAll(() => Promise.all([root, authority, node, publisher, verifier].map(part => part.stop())))
  const founded = await foundNetwork(
    {
      roots: [root],
      authority,
      node: node.publicKeys,
      publisher: { keys: publisher.publicKeys, fingerprint: publisher.fingerprint },
    },
    { network: 'test', threshold: 1, now: Date.now() },
  )
  const [leaf] = decodeChain(founded.node)
  if (leaf === undefined) throw new Error('a chain has a leaf')
  const { node: nodeChain, publisher: publisherChain } = founded
  return {
    root: founded.root,
    revocations: founded.revocations,
    chains: { node: nodeChain, publisher: publisherChain },
    node: leaf,
    check: verifier.check.bind(verifier),
    nextList: (next: { sequence: number; issuedAt: number; revoked: readonly string[] }) =>
      signRevocations(
        {
          type: 'revocations',
          network: founded.root.fingerprint,
          issuer: founded.revocations.issuer,
          sequence: next.sequence,
          issuedAt: next.issuedAt,
          expiresAt: next.issuedAt + revocationLifetimeMs,
          revoked: next.revoked.map(certificate => ({ certificate, at: next.issuedAt, reason: 'test' })),
          chain: founded.authority,
        },
        authority,
      ),
  }
}
