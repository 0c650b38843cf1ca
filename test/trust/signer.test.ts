import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  decodeEnvelope,
  type Envelope,
  encodeEnvelope,
  type HeadStatement,
} from '../../src/assets/release.ts'
import { cidOf } from '../../src/base/cid.ts'
import { CryptoThread } from '../../src/trust/crypto-thread.ts'
import { sealStatement } from '../../src/trust/envelope.ts'
import { falcon } from '../../src/trust/falcon-scheme.ts'
import { generatePublisherKeys, type PublisherKeys } from '../../src/trust/keys.ts'
import { Signer } from '../../src/trust/signer.ts'
import { Verifier } from '../../src/trust/verifier.ts'

let keys: PublisherKeys
beforeAll(async () => {
  keys = await generatePublisherKeys()
})

const head = (sequence: number): HeadStatement => ({
  type: 'head',
  network: 'test',
  publisher: keys.fingerprint,
  name: 'word-count',
  sequence,
  ...(sequence === 1 ? {} : { previous: cidOf(Buffer.from(`${sequence - 1}`)) }),
  versions: [{ version: '1.0.0', id: cidOf(Buffer.from('release')) }],
  signedAt: 1,
  expiresAt: 2,
})

describe('the signer', () => {
  it('signs with both algorithms, Ed25519 first', async () => {
    const signer = new Signer({ keys })
    const message = Buffer.from('message')
    const signatures = await signer.sign(message)
    expect(signatures.map(({ algorithm }) => algorithm)).toEqual(['ed25519', 'falcon-1024-r3'])
    expect(falcon.verify(signatures[1]?.signature ?? message, message, keys.falcon.publicKey)).toBe(true)
    await signer.stop()
  })

  it('keeps the secret key whole for the next signature', async () => {
    const signer = new Signer({ keys })
    const before = keys.falcon.secretKey.slice()
    await signer.sign(Buffer.from('one'))
    await signer.sign(Buffer.from('two'))
    expect(keys.falcon.secretKey).toEqual(before)
    await signer.stop()
  })

  it('refuses after stop, and stopping twice is harmless', async () => {
    const signer = new Signer({ keys })
    const late = signer.sign(Buffer.from('late'))
    const refused = expect(late).rejects.toMatchObject({ code: 'daemon-stopping' })
    await signer.stop()
    await signer.stop()
    await refused
    await expect(signer.sign(Buffer.from('later'))).rejects.toMatchObject({ code: 'daemon-stopping' })
  })
})

describe('the signature thread', () => {
  it('ends when idle and starts again when needed', async () => {
    const thread = new CryptoThread({}, { idleMs: 50 })
    const request = {
      type: 'falcon-sign',
      message: Buffer.from('x'),
      secretKey: keys.falcon.secretKey,
    } as const
    await thread.perform(request)
    expect(thread.running).toBe(true)
    await expect.poll(() => thread.running, { timeout: 5_000 }).toBe(false)
    expect(await thread.perform(request)).toHaveLength(falcon.signatureBytes)
    await thread.stop()
  })

  it('refuses more than it may hold', async () => {
    const thread = new CryptoThread({}, { maxWaiting: 1 })
    const first = thread.perform({ type: 'generate' })
    await expect(thread.perform({ type: 'generate' })).rejects.toMatchObject({ code: 'busy' })
    await first
    await thread.stop()
  })

  it('says why a request failed, and goes on', async () => {
    const thread = new CryptoThread()
    const request = (secretKey: Uint8Array) =>
      ({ type: 'falcon-sign', message: Buffer.from('x'), secretKey }) as const
    await expect(thread.perform(request(new Uint8Array(3)))).rejects.toMatchObject({ code: 'internal' })
    expect(await thread.perform(request(keys.falcon.secretKey))).toHaveLength(falcon.signatureBytes)
    await thread.stop()
  })

  describe('with workers that misbehave', () => {
    let directory: string
    const workerOf = async (name: string, code: string) => {
      const path = join(directory, name)
      await writeFile(path, code)
      return pathToFileURL(path)
    }
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'catalog-worker-'))
    })
    afterAll(() => rm(directory, { recursive: true }))

    it('fails what waited when the thread dies, and starts another', async () => {
      // Dies on its first request for a key, answers any other.
      const url = await workerOf(
        'dying.mjs',
        `import { parentPort } from 'node:worker_threads'
         parentPort.on('message', ({ call, request }) => {
           if (request.type === 'generate') process.exit(3)
           parentPort.postMessage({ call, value: new Uint8Array([call]) })
         })`,
      )
      const thread = new CryptoThread({ workerUrl: url })
      await expect(thread.perform({ type: 'generate' })).rejects.toMatchObject({ code: 'internal' })
      const sign = {
        type: 'falcon-sign',
        message: Buffer.from('x'),
        secretKey: keys.falcon.secretKey,
      } as const
      expect(await thread.perform(sign)).toEqual(new Uint8Array([2]))
      await thread.stop()
    })

    it('gives up on a thread that hangs', async () => {
      const url = await workerOf(
        'hanging.mjs',
        `import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => { for (;;) {} })`,
      )
      const thread = new CryptoThread({ workerUrl: url }, { callTimeoutMs: 200 })
      await expect(thread.perform({ type: 'generate' })).rejects.toMatchObject({ code: 'timeout' })
      expect(thread.running).toBe(false)
      await thread.stop()
    })
  })
})

describe('the verifier', () => {
  let envelopes: Envelope[]
  beforeAll(async () => {
    const signer = new Signer({ keys })
    envelopes = []
    for (let sequence = 1; sequence <= 40; sequence++)
      envelopes.push(decodeEnvelope((await sealStatement(head(sequence), signer)).bytes))
    await signer.stop()
  })

  const forged = () => {
    const [first, second] = envelopes as [Envelope, Envelope]
    return encodeEnvelope(first.statement, first.statementBytes, second.signatures)
  }

  it('accepts honest envelopes and refuses forged ones, alone and among many', async () => {
    const verifier = new Verifier({ proveStatement: async () => undefined })
    expect(await verifier.verify(envelopes[0] as Envelope)).toBe(envelopes[0])
    await expect(verifier.verify(forged())).rejects.toMatchObject({ code: 'bad-signature' })
    const outcomes = await Promise.allSettled([...envelopes, forged()].map(item => verifier.verify(item)))
    expect(outcomes.map(({ status }) => status)).toEqual([...envelopes.map(() => 'fulfilled'), 'rejected'])
    await verifier.stop()
  })

  it('does not take a forgery for what it proved before', async () => {
    const verifier = new Verifier({ proveStatement: async () => undefined })
    for (const envelope of envelopes) await verifier.verify(envelope)
    const [first] = envelopes as [Envelope]
    const broken = Buffer.from(first.bytes)
    broken[broken.length - 40] = (broken[broken.length - 40] ?? 0) ^ 1
    await expect(verifier.verify(decodeEnvelope(broken))).rejects.toMatchObject({ code: 'bad-signature' })
    await verifier.stop()
  })

  it('refuses more than it may hold', async () => {
    const verifier = new Verifier({ proveStatement: async () => undefined }, { maxUnderWay: 2 })
    const outcomes = await Promise.allSettled(envelopes.slice(0, 3).map(item => verifier.verify(item)))
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
    await verifier.stop()
  })

  it('leaves the event loop free while it seals and verifies many', async () => {
    const signer = new Signer({ keys })
    const verifier = new Verifier({ proveStatement: async () => undefined })
    // Warm up: starting threads and compiling is not what is measured.
    await Promise.all([
      signer.sign(Buffer.from('warm')),
      ...envelopes.slice(0, 4).map(e => verifier.verify(e)),
    ])
    await sleep(100)
    const before = process.threadCpuUsage()
    await Promise.all([
      ...Array.from({ length: 40 }, (_, i) => sealStatement(head(100 + i), signer)),
      ...envelopes.map(item => verifier.verify(item)),
    ])
    // Forty Falcon signatures take half a second of computing. What this thread computes is the same on a busy machine;
    // how long it waits for a processor is not (bench/trust.ts measures that).
    const { user, system } = process.threadCpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(150)
    await signer.stop()
    await verifier.stop()
  })
})
