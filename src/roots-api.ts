// The calls of the control socket about the network's root: what it is, and the next one taken in. A part of the
// composition root.
import type { RootsApi } from './control/roots-api.ts'
import { decodeChain } from './trust/certificate.ts'
import type { TrustChain } from './trust/trust-chain.ts'

export function createRootsApi(
  trust: Pick<TrustChain, 'root' | 'roots' | 'network' | 'revocationLists' | 'accept'>,
): RootsApi {
  return {
    async current() {
      const { version, fingerprint, bytes } = trust.root
      const authorities = trust.revocationLists().flatMap(({ chain }) => {
        const top = decodeChain(chain).at(-1)
        return top?.issuer === trust.network ? [top.fingerprint] : []
      })
      return {
        version,
        fingerprint,
        network: trust.network,
        document: Buffer.from(bytes).toString('base64'),
        authorities: [...new Set(authorities)].sort(),
        roots: (await trust.roots()).map(root => Buffer.from(root).toString('base64')),
      }
    },
    accept: async ({ document }) => ({
      outcome: await trust.accept(new Uint8Array(Buffer.from(document, 'base64'))),
    }),
  }
}
