// What trust costs: `node bench/trust.ts [--releases N] [--rounds N]`.
//
//   sign + verify + chain   one release signed with both algorithms, then proved by a verifier that has never seen any
//                           of its chain of three certificates (publisher, two authorities): median of the rounds
//   batch                   releases of one publisher per second and core, proved by a verifier that has seen none of
//                           them: wall time, and processor time of all threads together
//   event loop              the longest delay of the event loop while the batch is proved
import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { decodeEnvelope, type Envelope, type ReleaseStatement } from '../src/assets/release.ts'
import { cidOf } from '../src/base/cid.ts'
import { silentLog } from '../src/base/log.ts'
import { type CertificateGrant, issueCertificate } from '../src/trust/certificate.ts'
import type { DocumentSigner } from '../src/trust/document.ts'
import { sealStatement } from '../src/trust/envelope.ts'
import { generatePublisherKeys } from '../src/trust/keys.ts'
import { signRoot } from '../src/trust/root.ts'
import { Signer } from '../src/trust/signer.ts'
import { TrustChain } from '../src/trust/trust-chain.ts'
import { Verifier } from '../src/trust/verifier.ts'

const { values } = parseArgs({
  options: { releases: { type: 'string', default: '1000' }, rounds: { type: 'string', default: '41' } },
})
const [count, rounds] = [Number(values.releases), Number(values.rounds)]
const dayMs = 86_400_000
const now = Date.now()

const [root, upper, lower, publisher] = await Promise.all(
  Array.from({ length: 4 }, async () => new Signer({ keys: await generatePublisherKeys() })),
)
if (root === undefined || upper === undefined || lower === undefined || publisher === undefined)
  throw new Error()
const firstRoot = await signRoot(
  {
    type: 'root',
    network: 'bench',
    version: 1,
    keys: [root.publicKeys],
    threshold: 1,
    notBefore: now - dayMs,
    notAfter: now + dayMs,
    carried: [],
    revoked: [],
  },
  [root],
)
const issue = (subject: DocumentSigner, issuer: string, by: DocumentSigner, grant: CertificateGrant) =>
  issueCertificate(
    {
      network: firstRoot.fingerprint,
      serial: new Uint8Array(randomBytes(16)),
      subject: subject.publicKeys,
      issuer,
      notBefore: now - dayMs,
      notAfter: now + dayMs,
      critical: {},
      extensions: {},
      ...grant,
    },
    [by],
  )
const authority = {
  type: 'authority',
  maxPathLength: 1,
  issues: ['authority', 'publisher'],
  names: ['*'],
} as const
const first = await issue(upper, firstRoot.fingerprint, root, authority)
const second = await issue(lower, first.fingerprint, upper, { ...authority, maxPathLength: 0 })
const leaf = await issue(publisher, second.fingerprint, lower, {
  type: 'publisher',
  publisher: publisher.fingerprint,
  names: ['bench-*'],
  rights: ['publish'],
})
const signer = {
  fingerprint: publisher.fingerprint,
  publicKeys: publisher.publicKeys,
  chain: [leaf.bytes, second.bytes, first.bytes],
  sign: (message: Uint8Array) => publisher.sign(message),
}

const statement = (at: number): ReleaseStatement => ({
  type: 'release',
  network: 'bench',
  publisher: publisher.fingerprint,
  name: `bench-${at}`,
  version: '1.0.0',
  root: cidOf(Buffer.from(String(at))),
  size: 1,
  files: 1,
  blake3: new Uint8Array(32),
  sha256: new Uint8Array(32),
  manifestPath: 'catalog.yaml',
  manifest: { metadata: { name: `bench-${at}`, version: '1.0.0' }, spec: { description: 'x'.repeat(1000) } },
  signedAt: now,
})

/** The thread that checks, as a daemon that is at work has it. */
const thread = new Verifier({ proveStatement: async () => undefined })

/** A verifier that knows nothing yet. */
async function stranger(): Promise<Verifier> {
  const empty = { putNotice: async () => undefined, notice: async () => undefined, async *notices() {} }
  const trust = new TrustChain(
    { notices: empty, check: check => thread.check(check), now: Date.now, log: silentLog },
    { firstRoot: firstRoot.bytes, network: firstRoot.fingerprint },
  )
  const verifier: Verifier = new Verifier({ proveStatement: envelope => trust.proveStatement(envelope) })
  await trust.start()
  return verifier
}

const median = (samples: readonly number[]) =>
  [...samples].sort((a, b) => a - b)[samples.length >> 1] as number

const whole: number[] = []
const verifyOnly: number[] = []
for (let round = 0; round < rounds; round++) {
  const verifier = await stranger()
  const started = performance.now()
  const { bytes } = await sealStatement(statement(round), signer)
  const signed = performance.now()
  await verifier.verify(decodeEnvelope(bytes))
  whole.push(performance.now() - started)
  verifyOnly.push(performance.now() - signed)
  await verifier.stop()
}
console.log(
  `sign + verify + chain of three   p50 ${median(whole).toFixed(1)} ms   (verify + chain alone ${median(verifyOnly).toFixed(1)} ms)   wanted < 25 ms`,
)

const batch: Uint8Array[] = []
for (let at = 0; at < count; at++) batch.push((await sealStatement(statement(at), signer)).bytes)
const verifier = await stranger()
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const [wall, cpu] = [performance.now(), process.cpuUsage()]
const proved: Promise<Envelope>[] = []
for (const bytes of batch) {
  proved.push(verifier.verify(decodeEnvelope(bytes)))
  // As sync brings them: 64 to an answer.
  if (proved.length % 64 === 0) await Promise.all(proved.splice(0))
}
await Promise.all(proved)
const seconds = (performance.now() - wall) / 1000
const { user, system } = process.cpuUsage(cpu)
const cores = (user + system) / 1e6
console.log(
  `batch of ${count}   ${Math.round(count / seconds)} a second   ${Math.round(count / cores)} per second and core   wanted ≥ 600`,
)
console.log(`event loop   longest delay ${(delay.max / 1e6).toFixed(1)} ms   wanted ≤ 20 ms`)
await Promise.all([thread, verifier, root, upper, lower, publisher].map(part => part.stop()))
