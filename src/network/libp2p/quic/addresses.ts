// QUIC addresses: which they are, their parts, and the addresses of this machine behind a wildcard.
import { networkInterfaces } from 'node:os'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'

export interface UdpAddress {
  readonly family: 4 | 6
  readonly host: string
  readonly port: number
}

/** Exactly `/ip4|ip6/…/udp/…/quic-v1`, with or without the peer. */
export function isQuicAddress(address: Multiaddr): boolean {
  const names = address.getComponents().map(component => component.name)
  return /^ip[46],udp,quic-v1(,p2p)?$/.test(names.join())
}

export const onlyQuic = (addresses: Multiaddr[]): Multiaddr[] => addresses.filter(isQuicAddress)

/** @throws Error where it is no QUIC address. */
export function udpAddress(address: Multiaddr): UdpAddress {
  const [ip, udp] = address.getComponents()
  if (!isQuicAddress(address) || ip?.value === undefined || udp?.value === undefined)
    throw new Error(`${address} is no address of the form /ip4/…/udp/…/quic-v1`)
  return { family: ip.name === 'ip4' ? 4 : 6, host: ip.value, port: Number(udp.value) }
}

/** The peer that the address names. */
export function namedPeer(address: Multiaddr): string | undefined {
  return address.getComponents().find(component => component.name === 'p2p')?.value
}

/** What can be reached where this is listened on: every address of this machine for `0.0.0.0` and `::`, as of now. */
export function reachable({ family, host, port }: UdpAddress): Multiaddr[] {
  const hosts = host === '0.0.0.0' || host === '::' ? ownAddresses(family) : [host]
  return hosts.map(each => multiaddr(`/ip${family}/${each}/udp/${port}/quic-v1`))
}

function ownAddresses(family: 4 | 6): string[] {
  return Object.values(networkInterfaces())
    .flatMap(each => each ?? [])
    .filter(each => each.family === `IPv${family}`)
    .map(each => each.address)
}
