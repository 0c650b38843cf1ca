// `catalog demo`: a private network of three real daemons on this machine, from publishing to execution, told as a
// story. Everything in it is real work through the control sockets; a part that cannot run here fails the demo.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isCatalogError } from '../base/errors.ts'
import type { ExecutionView, FetchResult, PublishResult } from '../control/api.ts'
import { type DemoNode, startNode } from './demo/node.ts'
import { makeSampleFiles } from './demo/sample-files.ts'
import { formatBytes, formatDuration, formatRate } from './text.ts'

const packages = fileURLToPath(new URL('./demo/packages', import.meta.url))
const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

interface Report {
  readonly published: PublishResult[]
  readonly fetched: FetchResult[]
  readonly executed: ExecutionView[]
}

class DemoFailure extends Error {}

/** Resolves to the exit code: 0 when every part of the story happened. */
export async function runDemo({
  json,
  keep,
}: {
  readonly json: boolean
  readonly keep: boolean
}): Promise<number> {
  const started = performance.now()
  const say = json ? () => undefined : (line: string) => void process.stdout.write(`${line}\n`)
  const root = await mkdtemp(join(tmpdir(), 'catalog-demo-'))
  const nodes: DemoNode[] = []
  const interrupted = new AbortController()
  const interrupt = () => interrupted.abort(new DemoFailure('it was interrupted'))
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  try {
    const report = await Promise.race([tell(root, nodes, say), aborted(interrupted.signal)])
    say(`\nDone in ${formatDuration(performance.now() - started)}.`)
    if (json)
      process.stdout.write(
        `${JSON.stringify({ ok: true, milliseconds: Math.round(performance.now() - started), ...report })}\n`,
      )
    return 0
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const code = isCatalogError(error) ? error.code : 'internal'
    process.stderr.write(
      json ? `${JSON.stringify({ error: { code, message } })}\n` : `\nThe demo failed: ${message}\n`,
    )
    return 1
  } finally {
    await Promise.all(nodes.map(node => node.stop()))
    if (keep) say(`The three homes are kept in ${root}`)
    else await rm(root, { recursive: true, force: true })
  }
}

async function tell(root: string, nodes: DemoNode[], say: (line: string) => void): Promise<Report> {
  say('Three nodes on this machine, each its own process with its own home, keys and store.')
  say('alice founds a network; bob and carol each join it with an invite of hers.\n')
  const alice = await begin(root, nodes, 'alice')
  const bob = await begin(root, nodes, 'bob', alice)
  const carol = await begin(root, nodes, 'carol', alice)
  for (const { name, peerId, addresses } of nodes)
    say(`  ${name.padEnd(6)} ${peerId.slice(-12)}  ${addresses[0] ?? ''}`.slice(0, 78))
  await refuseWithoutSandbox(carol)

  say('\n1. alice signs and publishes two packages (Falcon-1024 and Ed25519).')
  const small = await publish(alice, join(packages, 'line-count'), say)
  const large = await publish(alice, await sampleTree(root), say)
  await refuseStrangers(bob, join(packages, 'line-count'), say)

  say('\n2. bob finds tree-digest and fetches it from alice.')
  await known(bob, large.id)
  const first = await fetch(bob, 'tree-digest', join(root, 'bob-out'), say)

  say('\n3. carol fetches it from both, every shard checked against its hash.')
  await providersOf(carol, large.id, 2)
  const second = await fetch(carol, 'tree-digest', join(root, 'carol-out'), say)
  if (second.providers.length < 2)
    throw new DemoFailure(`carol got all bytes from ${second.providers.length} provider`)
  await compare(root, say)

  say('\n4. Each package runs in a sandbox on another node than the one asked.')
  const counted = await execute(bob, 'line-count', carol, 'one two\nthree\n', '2 3 14\n', say)
  const digested = await execute(
    carol,
    'tree-digest',
    bob,
    '',
    await expectedReport(join(root, 'tree-digest', 'data')),
    say,
  )
  const result = await carol.client.result(digested.id, { out: join(root, 'result') })
  const kept = await readFile(join(root, 'result', 'report.json'), 'utf8')
  if (kept !== digested.stdout) throw new DemoFailure('the result that came back is not what was printed')
  say(`   its result directory came back to carol: ${result.files} file, ${formatBytes(result.bytes)}`)
  return { published: [small, large], fetched: [first, second], executed: [counted, digested] }
}

async function begin(root: string, nodes: DemoNode[], name: string, founder?: DemoNode): Promise<DemoNode> {
  const invited = founder === undefined ? {} : await founder.client.invite({ label: name })
  const node = await startNode({ name, home: join(root, name), ...invited })
  nodes.push(node)
  return node
}

async function refuseWithoutSandbox(node: DemoNode): Promise<void> {
  const { execution } = await node.client.status()
  if (execution.tier === 'none')
    throw new DemoFailure(`this machine has no sandbox, so nothing can be executed: ${execution.tierReason}`)
  for (const runtime of ['wasm', 'python'])
    if (!execution.runtimes.includes(runtime))
      throw new DemoFailure(
        `the runtime ${runtime} is not available here; for python, install python3 from your distribution`,
      )
}

async function publish(node: DemoNode, path: string, say: (line: string) => void): Promise<PublishResult> {
  const result = await node.client.publish({ path })
  say(
    `   ${`${result.name}@${result.version}`.padEnd(18)} ${String(result.files).padStart(4)} files, ${formatBytes(result.size).padStart(9)}  in ${formatDuration(result.milliseconds)}`,
  )
  return result
}

/** bob is a member, and the names are alice's. */
async function refuseStrangers(node: DemoNode, path: string, say: (line: string) => void): Promise<void> {
  try {
    await node.client.publish({ path })
  } catch (error) {
    if (!isCatalogError(error, 'certificate-name-not-granted')) throw error
    say(`   ${node.name} may not publish them: no name was granted to that node's publisher.`)
    return
  }
  throw new DemoFailure(`${node.name} published a name that it does not hold`)
}

/** A published release reaches connected peers by itself. */
async function known(node: DemoNode, id: string): Promise<void> {
  await until(`${node.name} did not hear of the release`, async () =>
    (await node.client.releases(false)).some(release => release.id === id),
  )
}

async function providersOf(node: DemoNode, id: string, count: number): Promise<void> {
  await until(`${node.name} does not see ${count} providers`, async () => {
    const { providers } = await node.client.show(id)
    return providers.filter(({ complete }) => complete).length >= count
  })
}

async function until(failure: string, holds: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    if (await holds().catch(() => false)) return
    await wait(200)
  }
  throw new DemoFailure(failure)
}

async function fetch(
  node: DemoNode,
  ref: string,
  out: string,
  say: (line: string) => void,
): Promise<FetchResult> {
  const [result] = await node.client.fetch({ refs: [ref], out })
  if (result === undefined || 'error' in result) throw new DemoFailure(`${node.name} could not fetch ${ref}`)
  say(
    `   ${formatBytes(result.bytesTransferred)} in ${formatDuration(result.milliseconds)} (${formatRate(result.bytesTransferred, result.milliseconds)}), verified and durable; files written in ${formatDuration(result.writeMilliseconds ?? 0)}`,
  )
  for (const { peer, bytes } of result.providers)
    say(`     ${formatBytes(bytes).padStart(9)} from ${peer.slice(-12)}`)
  return result
}

async function compare(root: string, say: (line: string) => void): Promise<void> {
  const digests = await Promise.all(
    ['tree-digest', 'bob-out', 'carol-out'].map(name => treeDigest(join(root, name))),
  )
  if (new Set(digests).size !== 1) throw new DemoFailure('the three trees are not equal')
  say(
    `   alice's, bob's and carol's files are equal, byte for byte and mode for mode: ${digests[0]?.slice(0, 16)}…`,
  )
}

/** Paths, modes and bytes of a tree as one digest. */
async function treeDigest(root: string): Promise<string> {
  const digest = createHash('sha256')
  const names = await readdir(root, { recursive: true, withFileTypes: true })
  const paths = names.map(entry => join(entry.parentPath, entry.name)).sort()
  for (const path of paths) {
    const status = await stat(path)
    digest.update(`${path.slice(root.length)}\0${status.mode}\0`)
    if (status.isFile()) for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer)
    else if (status.isSymbolicLink()) digest.update(await readlink(path))
  }
  return digest.digest('hex')
}

async function execute(
  asked: DemoNode,
  ref: string,
  on: DemoNode,
  input: string,
  expected: string,
  say: (line: string) => void,
): Promise<ExecutionView> {
  const inputBase64 = Buffer.from(input).toString('base64')
  const view = await asked.client.execute({ ref, on: on.peerId, args: [], env: {}, inputBase64 })
  if (view.state !== 'succeeded')
    throw new DemoFailure(`${ref} on ${on.name} ended as ${view.state}: ${view.reason ?? view.stderr ?? ''}`)
  if (view.peer !== on.peerId) throw new DemoFailure(`${ref} ran on ${view.peer}, not on ${on.name}`)
  if (view.stdout !== expected)
    throw new DemoFailure(`${ref} printed ${JSON.stringify(view.stdout)}, not ${JSON.stringify(expected)}`)
  const wall = view.used?.wallSeconds
  say(
    `   asked of ${asked.name}, run by ${on.name}: ${ref} (${view.runtime})${wall === undefined ? '' : `, ${formatDuration(wall * 1000)}`}`,
  )
  say(`     ${(view.stdout ?? '').trim()}`.slice(0, 78))
  return view
}

/** The Python package with a few hundred files of its own beside it. */
async function sampleTree(root: string): Promise<string> {
  const directory = join(root, 'tree-digest')
  await cp(join(packages, 'tree-digest'), directory, { recursive: true })
  await mkdir(join(directory, 'data'))
  await makeSampleFiles(join(directory, 'data'), async (path, bytes) => writeFile(path, bytes))
  return directory
}

/** What the payload must print, computed here by other means. */
async function expectedReport(data: string): Promise<string> {
  const digest = createHash('sha256')
  const names = (await readdir(data, { recursive: true, withFileTypes: true })).filter(entry =>
    entry.isFile(),
  )
  // Python sorts paths part by part; with these names, that is the order of the text with `/` lowest.
  const paths = names.map(entry => `data${join(entry.parentPath, entry.name).slice(data.length)}`)
  paths.sort((a, b) => (a.replaceAll('/', '\0') < b.replaceAll('/', '\0') ? -1 : 1))
  let bytes = 0
  for (const path of paths) {
    const content = await readFile(join(data, '..', path))
    digest.update(`${path}\0`).update(content)
    bytes += content.byteLength
  }
  return `{"files": ${paths.length}, "bytes": ${bytes}, "sha256": "${digest.digest('hex')}"}\n`
}

const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
