// Real libp2p nodes on loopback in this process, for tests.
import { type Log, silentLog } from '../../src/base/log.ts'
import type { Admissions } from '../../src/network/admission.ts'
import { createNodeKey } from '../../src/network/identity.ts'
import { KadRouter, type KadRouterDeps, type KadRouterOptions } from '../../src/network/kad-router.ts'
import { type HostOptions, Libp2pHost } from '../../src/network/libp2p-host.ts'
import { select, validate } from '../conformance/router.ts'
import { everybody } from './admissions.ts'

export const quicOnly = { listen: ['/ip4/127.0.0.1/udp/0/quic-v1'] }
export const tcpOnly = { listen: ['/ip4/127.0.0.1/tcp/0'] }

export async function startHost(
  options: Partial<HostOptions> = quicOnly,
  log: Log = silentLog,
  admissions: Admissions = everybody,
): Promise<Libp2pHost> {
  const host = new Libp2pHost({ privateKey: await createNodeKey(), admissions, log }, options)
  await host.start()
  return host
}

export interface KadNode {
  readonly peer: string
  readonly host: Libp2pHost
  readonly router: KadRouter
}

export async function startKadNode(
  options: Partial<KadRouterOptions> = {},
  rules: Partial<KadRouterDeps> = {},
  hostOptions: Partial<HostOptions> = quicOnly,
  admissions: Admissions = everybody,
): Promise<KadNode> {
  const host = new Libp2pHost({ privateKey: await createNodeKey(), admissions, log: silentLog }, hostOptions)
  const router = new KadRouter({ host, validate, select, log: silentLog, ...rules }, options)
  await host.start()
  await router.start()
  return { peer: host.peer, host, router }
}

/** Connects, and waits until both know each other as members. */
export async function connect(a: Libp2pHost, b: Libp2pHost, withinMs = 5000): Promise<void> {
  await a.dial(b.addresses()[0] as string)
  const deadline = Date.now() + withinMs
  while (!a.isConnected(b.peer) || !b.isConnected(a.peer)) {
    if (Date.now() > deadline) throw new Error(`the hosts did not meet within ${withinMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export const stopAll = (nodes: readonly KadNode[]) =>
  Promise.all(
    nodes.map(async ({ host, router }) => {
      await router.stop()
      await host.stop()
    }),
  )
