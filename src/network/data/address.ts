// IP addresses as they stand in multiaddrs, in sockets and in configs, in one form.
import { isIP, SocketAddress } from 'node:net'

/** The address in its shortest form, IPv4 as such where it came mapped into IPv6; empty for what is none. */
export function plainAddress(address: string): string {
  const family = isIP(address)
  if (family === 0) return ''
  const plain = new SocketAddress({ address, family: family === 4 ? 'ipv4' : 'ipv6' }).address
  return plain.startsWith('::ffff:') && isIP(plain.slice(7)) === 4 ? plain.slice(7) : plain
}

/** Which of the ports serves somebody who knows this node by the address. */
export function portFor(address: string, ports: ReadonlyMap<string, number>): number | undefined {
  const family = isIP(address)
  const everywhere = family === 4 ? '0.0.0.0' : '::'
  // Behind a NAT the address is another one, and the port may have been forwarded.
  const sameFamily = [...ports].find(([host]) => isIP(host) === family && !isLoopback(host))?.[1]
  return ports.get(address) ?? ports.get(everywhere) ?? sameFamily
}

/** The addresses of the multiaddrs, each once. */
export function listenHosts(multiaddrs: readonly string[]): string[] {
  const hosts = multiaddrs.map(text => plainAddress(/^\/ip[46]\/([^/]+)\//.exec(`${text}/`)?.[1] ?? ''))
  return [...new Set(hosts.filter(host => host !== ''))]
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1'
