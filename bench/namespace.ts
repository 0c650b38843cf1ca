// Network namespaces for measuring: private loopbacks, and links of a stated rate between them. A namespace lives
// as long as its holder, a process that waits for the end of its standard input: however this program ends, nothing
// stays behind. Linux and root only; nothing here touches the machine's own network.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Why namespaces cannot be had here, with what to do; undefined where they can. */
export async function namespacesMissing(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'network namespaces are Linux only'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  try {
    const namespace = await Namespace.open()
    try {
      await namespace.run('tc', ['qdisc', 'add', 'dev', 'lo', 'root', ...bucket(1000)])
    } finally {
      namespace.close()
    }
    return undefined
  } catch (error) {
    return `no network namespace with a shaped link could be made: install iproute2 and util-linux (${String(error).split('\n')[0]})`
  }
}

export class Namespace {
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
  }

  /** A namespace with nothing in it but its own loopback. */
  static async open(): Promise<Namespace> {
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] })
    const failed = new Promise<never>((_, reject) => {
      holder.once('error', reject)
      holder.once('exit', code => reject(new Error(`unshare --net ended with ${code}`)))
    })
    failed.catch(() => undefined)
    const namespace = new Namespace(holder)
    try {
      await Promise.race([namespace.#untilOwn(), failed])
      await namespace.run('ip', ['link', 'set', 'lo', 'up'])
    } catch (error) {
      namespace.close()
      throw error
    }
    return namespace
  }

  /** The holder enters its namespace a moment after it was started. */
  async #untilOwn(): Promise<void> {
    const ours = readlinkSync('/proc/self/ns/net')
    for (let tries = 0; tries < 500; tries++) {
      const theirs = this.#holder.pid === undefined ? ours : readlinkSync(`/proc/${this.#holder.pid}/ns/net`)
      if (theirs !== ours) return
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    throw new Error('unshare --net made no namespace within 5 s')
  }

  /** The command that runs `command` in here; it becomes it, so that the process id is its own. */
  command(command: string, args: readonly string[]): [command: string, args: string[]] {
    return ['nsenter', [`--net=/proc/${this.#holder.pid}/ns/net`, command, ...args]]
  }

  async run(command: string, args: readonly string[]): Promise<void> {
    await run(...this.command(command, args), { timeout: 10_000 })
  }

  /** Bytes that went over the loopback so far, headers included: everything that processes in here sent each other. */
  loopbackBytes(): number {
    const line = readFileSync(`/proc/${this.#holder.pid}/net/dev`, 'utf8').match(/^\s*lo:\s*(\d+)/m)
    if (line === null) throw new Error('the namespace shows no counters of its loopback')
    return Number(line[1])
  }

  /**
   * A link of its own between two namespaces, held to a rate in both directions. `number` (1-250) makes its addresses.
   * @returns the IPv4 addresses of the two ends
   */
  static async link(from: Namespace, to: Namespace, number: number, megabits: number) {
    const ends = [
      [from, `a${number}`, `10.77.${number}.1`],
      [to, `b${number}`, `10.77.${number}.2`],
    ] as const
    const peer = ['peer', 'name', `b${number}`, 'netns', String(to.#holder.pid)]
    await from.run('ip', ['link', 'add', `a${number}`, 'type', 'veth', ...peer])
    for (const [namespace, device, address] of ends) {
      await namespace.run('ip', ['addr', 'add', `${address}/24`, 'dev', device])
      await namespace.run('ip', ['link', 'set', device, 'up'])
      await namespace.run('tc', ['qdisc', 'add', 'dev', device, 'root', ...bucket(megabits)])
    }
    return { from: ends[0][2], to: ends[1][2] }
  }

  close(): void {
    this.#holder.stdin?.end()
    this.#holder.kill('SIGKILL')
  }
}

/**
 * A token bucket of the rate (tc-tbf(8)). Its burst is 2 ms of the rate, at least a few full packets: a larger one
 * would let a short run go faster than the rate. The queue holds 50 ms, as a plain router's does.
 */
function bucket(megabits: number): string[] {
  const burst = Math.max(16_384, Math.round((megabits * 1e6) / 8 / 500))
  return ['tbf', 'rate', `${megabits}mbit`, 'burst', String(burst), 'latency', '50ms']
}
