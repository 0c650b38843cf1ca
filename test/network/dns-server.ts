// A real DNS server for tests: NSD, as the distribution packages it, on loopback with a zone of the test's own.
// Only the process started here is ever ended.
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askServer } from '../../src/network/dns/exchange.ts'

const program = ['/usr/sbin/nsd', '/usr/local/sbin/nsd'].find(path => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
})

/** Why there is none here; undefined where there is one. */
export const missingDnsServer = program === undefined ? 'it needs nsd, a DNS server' : undefined

export interface ZoneRecord {
  /** Below the zone: `_dnsaddr.net`. */
  readonly name: string
  readonly ttlSeconds?: number
  readonly txt?: string
  readonly cname?: string
}

/** The zone that the server has; `broken.test` is another, whose file is missing: it answers SERVFAIL there. */
export const zone = 'catalog.test'
export const brokenZone = 'broken.test'

export class DnsTestServer {
  readonly #directory: string
  readonly #port: number
  #child: ChildProcess | undefined
  #serial = 1
  #log = ''

  private constructor(directory: string, port: number) {
    this.#directory = directory
    this.#port = port
  }

  static async start(records: readonly ZoneRecord[]): Promise<DnsTestServer> {
    const directory = await mkdtemp(join(tmpdir(), 'catalog-dns-'))
    const server = new DnsTestServer(directory, await freePort())
    await server.#writeZone(records)
    await writeFile(join(directory, 'nsd.conf'), server.#settings())
    await server.resume()
    return server
  }

  /** For `dns.servers`. */
  get address(): string {
    return `127.0.0.1:${this.#port}`
  }

  async resume(): Promise<void> {
    const child = spawn(program as string, ['-d', '-c', join(this.#directory, 'nsd.conf')], { stdio: 'pipe' })
    this.#child = child
    const note = (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString()).slice(-10_000)
    }
    child.stdout.on('data', note)
    child.stderr.on('data', note)
    process.once('exit', () => child.kill('SIGTERM'))
    await this.#untilSerial()
  }

  /** Nobody answers at its address until it is resumed. */
  async pause(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
  }

  /** Resolves when the server answers from the new zone. */
  async change(records: readonly ZoneRecord[]): Promise<void> {
    this.#serial += 1
    await this.#writeZone(records)
    this.#child?.kill('SIGHUP')
    await this.#untilSerial()
  }

  async stop(): Promise<void> {
    await this.pause()
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #writeZone(records: readonly ZoneRecord[]): Promise<void> {
    const path = join(this.#directory, `${zone}.zone`)
    const lines = records.map(({ name, ttlSeconds = 60, txt, cname }) =>
      cname === undefined
        ? `${name} ${ttlSeconds} IN TXT ${quoted(txt ?? '')}`
        : `${name} ${ttlSeconds} IN CNAME ${cname}`,
    )
    const text = [
      `$ORIGIN ${zone}.`,
      `@ 60 IN SOA ns.${zone}. root.${zone}. ${this.#serial} 60 60 60 5`,
      `@ 60 IN NS ns.${zone}.`,
      'ns 60 IN A 127.0.0.1',
      `_serial 0 IN TXT "${this.#serial}"`,
      ...lines,
      '',
    ].join('\n')
    await writeFile(path, text)
    // It reads a zone again whose time has changed, by whole seconds.
    const when = Date.now() / 1000 - 1000 + this.#serial
    await utimes(path, when, when)
  }

  async #untilSerial(): Promise<void> {
    const deadline = Date.now() + 20_000
    for (;;) {
      const server = { host: '127.0.0.1', port: this.#port }
      const answer = await askServer(server, `_serial.${zone}`, {
        signal: AbortSignal.timeout(500),
        resendMs: 200,
      }).catch(() => undefined)
      if (answer?.texts[0] === String(this.#serial)) return
      if (Date.now() > deadline) throw new Error(`the DNS server does not answer as it should: ${this.#log}`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }

  #settings(): string {
    const at = (name: string) => `"${join(this.#directory, name)}"`
    return `server:
  ip-address: 127.0.0.1@${this.#port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: ${at('')}
  zonelistfile: ${at('zone.list')}
  xfrdfile: ""
  xfrdir: ${at('')}
  pidfile: ""
  database: ""
  logfile: ${at('nsd.log')}
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: ${zone}
  zonefile: ${at(`${zone}.zone`)}
zone:
  name: ${brokenZone}
  zonefile: ${at('missing.zone')}
`
  }
}

/** Character strings of 255 bytes at most, as the zone file writes them. */
const quoted = (text: string): string =>
  (text.match(/.{1,255}/gs) ?? ['']).map(part => `"${part.replace(/["\\;]/g, '\\$&')}"`).join(' ')

/** Of loopback, free for UDP and for TCP. Another process may take it meanwhile: rare, and told by the server's log. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const udp = createSocket('udp4')
    const tcp = createServer()
    try {
      udp.bind(0, '127.0.0.1')
      await once(udp, 'listening')
      const { port } = udp.address()
      tcp.listen(port, '127.0.0.1')
      await once(tcp, 'listening')
      return port
    } catch (error) {
      if (attempt === 20) throw error
    } finally {
      udp.close()
      tcp.close()
    }
  }
}
