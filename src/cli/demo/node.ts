// One node of the demo: a home of its own and a daemon process of its own, started and stopped by this file alone.
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ControlClient } from '../../control/client.ts'

export interface DemoNode {
  readonly name: string
  readonly peerId: string
  readonly addresses: readonly string[]
  readonly client: ControlClient
  stop(): Promise<void>
}

const loopback = ['/ip4/127.0.0.1/udp/0/quic-v1', '/ip4/127.0.0.1/tcp/0']
const readyWithinMs = 20_000
const stopWithinMs = 6_000

export async function startNode({
  name,
  home,
  invite,
}: {
  readonly name: string
  readonly home: string
  /** Absent: it founds the network. */
  readonly invite?: string
}): Promise<DemoNode> {
  const joining = invite === undefined ? [] : ['--join', invite, '--label', name]
  await finished(catalog(['init', '--home', home, '--json', ...joining]), `${name} could not be initialised`)
  // The story is of packages that are fetched: copies that come of themselves would spoil it.
  await appendFile(join(home, 'config.yaml'), 'replication:\n  factor: 1\n')
  const listen = loopback.flatMap(address => ['--listen', address])
  const child = catalog(['daemon', '--home', home, '--offer-execution', '--log-level', 'error', ...listen])
  try {
    const ready = JSON.parse(await firstLine(child, name)) as {
      peerId: string
      addresses: string[]
      socket: string
    }
    const client = new ControlClient({ socketPath: ready.socket })
    return { name, peerId: ready.peerId, addresses: ready.addresses, client, stop: () => stop(child) }
  } catch (error) {
    await stop(child)
    throw error
  }
}

/** The same program as this one. */
function catalog(args: readonly string[]): ChildProcess {
  const program = process.argv[1] as string
  return spawn(process.execPath, [...process.execArgv, program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

async function finished(child: ChildProcess, failure: string): Promise<void> {
  const complaint = collect(child)
  const code = await exitOf(child)
  if (code !== 0) throw new Error(`${failure}: ${complaint()}`)
}

async function firstLine(child: ChildProcess, name: string): Promise<string> {
  const complaint = collect(child)
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  const line = new Promise<string>(resolve => lines.once('line', resolve))
  const ended = exitOf(child).then(() => {
    throw new Error(`${name}'s daemon ended before it was ready: ${complaint()}`)
  })
  const late = new Promise<never>((_, reject) =>
    setTimeout(
      reject,
      readyWithinMs,
      new Error(`${name}'s daemon was not ready in ${readyWithinMs / 1000} s`),
    ).unref(),
  )
  return Promise.race([line, ended, late])
}

function collect(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-2000)
  })
  return () => text.trim()
}

const exitOf = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve(child.exitCode)
    : new Promise(resolve => child.once('exit', resolve))

async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), stopWithinMs)
  await exitOf(child)
  clearTimeout(timer)
}
