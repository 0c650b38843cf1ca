// How names of networks and DNS servers are written in settings and records. Asking DNS is network/dns.ts's affair.
import { isIP } from 'node:net'

/** A name among bootstrap addresses, `NAME` or `/dnsaddr/NAME[/p2p/PEER]`. */
export interface WrittenName {
  /** Lower case, without a dot at the end. */
  readonly name: string
  /** Of the name's addresses, only this peer's are meant. */
  readonly peer?: string
}

// A query's name has at most 253 characters (RFC 1035, 2.3.4), `_dnsaddr.` among them.
const maxNameLength = 253 - '_dnsaddr.'.length
const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const written = /^\/dnsaddr\/([^/]{1,254})(?:\/p2p\/([A-Za-z0-9]{32,128}))?$/

/** Undefined for what is no such name: a multiaddr of another kind, an IP address, a single label, a peer id. */
export function parseNetworkName(text: string): WrittenName | undefined {
  const [, inside = text, peer] = written.exec(text) ?? []
  const name = inside.toLowerCase().replace(/\.$/, '')
  if (name.length > maxNameLength) return undefined
  const labels = name.split('.')
  // One label is a slip of the pen more often than a name; a number at the end is an IP address.
  if (labels.length < 2 || /^\d+$/.test(labels.at(-1) as string)) return undefined
  if (!labels.every(each => label.test(each))) return undefined
  return peer === undefined ? { name } : { name, peer }
}

export interface DnsServer {
  readonly host: string
  readonly port: number
}

const dnsPort = 53

/** `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`; undefined for anything else. */
export function parseDnsServer(text: string): DnsServer | undefined {
  if (isIP(text) !== 0) return { host: text, port: dnsPort }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]{2,64})\]|([\d.]{7,15})):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (bracketed !== undefined && isIP(bracketed) !== 6) return undefined
  if (plain !== undefined && isIP(plain) !== 4) return undefined
  const host = bracketed ?? plain
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port }
}
