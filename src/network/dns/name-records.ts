// What the TXT records of a network's name say. They come from anybody who can write to that zone or lie about it:
// what is not as it should be is left out, and counted for the operator.
//
//   _dnsaddr.NAME TXT "dnsaddr=MULTIADDR"            the multiaddr specification; MULTIADDR ends in /p2p/PEER, or is
//                                                    /dnsaddr/OTHER[/p2p/PEER], which means OTHER's addresses
//   _catalog.NAME TXT "catalog=v1 root=FINGERPRINT"  FINGERPRINT: a multihash in multibase base32; further words of
//                                                    the form KEY=VALUE are for later versions and are passed over
import { parseNetworkName, type WrittenName } from '../../base/network-name.ts'
import { parseAddress, parsePeer } from '../libp2p/addresses.ts'

export interface AddressRecords {
  readonly addresses: readonly string[]
  readonly names: readonly WrittenName[]
  /** Records that claim to hold an address and hold none that can be used. */
  readonly ignored: number
}

const addressKey = 'dnsaddr='
/** What a node here can dial, given in full. */
const direct = /^\/(?:ip4|ip6|dns|dns4|dns6)\//

export function readAddressRecords(texts: readonly string[]): AddressRecords {
  const values = texts
    .filter(text => text.startsWith(addressKey))
    .map(text => text.slice(addressKey.length).trim())
  const names: WrittenName[] = []
  const addresses = new Set<string>()
  let ignored = 0
  for (const value of values) {
    const name = value.startsWith('/dnsaddr/') ? parseNetworkName(value) : undefined
    if (name !== undefined) names.push(name)
    else if (isAddressOfPeer(value)) addresses.add(value)
    else ignored += 1
  }
  return { addresses: [...addresses], names, ignored }
}

/** A peer that is not named is one that cannot be proved. */
function isAddressOfPeer(text: string): boolean {
  if (!direct.test(text)) return false
  try {
    const last = parseAddress(text).getComponents().at(-1)
    return (
      last?.name === 'p2p' && last.value !== undefined && peerOf(text) === parsePeer(last.value).toString()
    )
  } catch {
    return false
  }
}

/** The peer at the end of an address. */
export const peerOf = (address: string): string | undefined => /\/p2p\/([^/]+)$/.exec(address)?.[1]

const fingerprint = /^b[a-z2-7]{20,127}$/

/** The root's fingerprint; `conflict` where records name different ones, of which none is believed. */
export function readRootRecords(texts: readonly string[]): { root?: string; conflict: boolean } {
  const roots = new Set<string>()
  for (const text of texts) {
    const [version, ...words] = text.trim().split(/ +/)
    if (version !== 'catalog=v1') continue
    const given = words.filter(word => word.startsWith('root=')).map(word => word.slice('root='.length))
    for (const each of given) if (fingerprint.test(each)) roots.add(each)
  }
  const [root] = roots
  return root === undefined || roots.size > 1 ? { conflict: roots.size > 1 } : { root, conflict: false }
}
