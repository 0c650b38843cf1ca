// What somebody gets who does not forge but fills: nothing that others send, proved or not, may crowd out what is proved,
// nor stay in memory beyond small bounds.
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import type { Equivocation } from '../../src/assets/equivocation.ts'
import { equivocationOf } from '../../src/assets/equivocation.ts'
import type { Verified } from '../../src/assets/stage.ts'
import { encodeCbor } from '../../src/base/cbor.ts'
import { cidOf } from '../../src/base/cid.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { Catalogue } from '../../src/registry/catalogue.ts'
import { encodeCertificateBody } from '../../src/trust/certificate.ts'
import { faultySignature } from '../../src/trust/signature-check.ts'
import { TrustChain } from '../../src/trust/trust-chain.ts'
import { alice, head } from '../registry/records.ts'
import {
  authority,
  goldenRoot,
  keysOf,
  network,
  now,
  publisherCertificate,
  revocations,
} from '../trust/test-network.ts'

const nowhere = {
  putNotice: async () => undefined,
  notice: async () => undefined,
  async *notices() {},
}

/** A large certificate that nobody signed: what a stranger can show in any number. */
function unsigned(serial: number): Uint8Array {
  const body = encodeCertificateBody({
    ...{ type: 'node', network, issuer: network, subject: keysOf('stranger') },
    serial: new Uint8Array(new Uint32Array([serial, 0, 0, 0]).buffer),
    ...{ notBefore: now - 1000, notAfter: now + 1000, roles: [], capabilities: [] },
    ...{ critical: {}, extensions: { padding: new Uint8Array(20 * 1024) } },
  })
  return encodeCbor({ v: 1, body, signatures: [] })
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

async function usedMemory(): Promise<number> {
  for (let turn = 0; turn < 3; turn++) {
    collectGarbage()
    await setImmediate()
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

const versions = (prefix: string) =>
  Array.from({ length: 1000 }, (_, at) => ({
    version: `1.0.${at}`,
    id: cidOf(Buffer.from(`${prefix} ${at}`)),
  }))

describe('strangers', () => {
  it('with two thousand large chains stay in nobody’s memory, and crowd out nothing that is proved', async () => {
    let checks = 0
    const trust = new TrustChain(
      {
        notices: nowhere,
        check: async check => {
          checks++
          return faultySignature(check)
        },
        now: () => now,
        log: silentLog,
      },
      { firstRoot: goldenRoot.bytes, network },
    )
    await trust.start()
    const top = await authority()
    const chain = [(await publisherCertificate(top)).bytes, top.bytes]
    await trust.prove(chain, { kind: 'any' })
    const before = checks
    const memory = await usedMemory()
    // Without `expect`, which keeps what it was given.
    const codes = new Set<string>()
    for (let serial = 0; serial < 2000; serial++)
      await trust.prove([unsigned(serial)], { kind: 'any' }).catch(({ code }) => codes.add(code))
    expect([...codes]).toEqual(['root-threshold'])
    // 40 MiB of certificates were sent.
    expect((await usedMemory()) - memory).toBeLessThan(20 * 1024 * 1024)
    await trust.prove(chain, { kind: 'any' })
    expect(checks).toBe(before)
  })
})

describe('an authority of few names', () => {
  it('that certifies another’s publisher id takes back nothing that the other has delegated', async () => {
    const trust = new TrustChain(
      { notices: nowhere, check: async check => faultySignature(check), now: () => now, log: silentLog },
      { firstRoot: goldenRoot.bytes, network },
    )
    await trust.start()
    const top = await authority()
    const own = await publisherCertificate(top)
    const delegate = await publisherCertificate(own, { subject: keysOf('delegate'), rights: ['publish'] }, [
      'publisher',
    ])
    const chain = [delegate.bytes, own.bytes, top.bytes]
    const few = { subject: keysOf('region'), maxPathLength: 0, names: ['evil/*'] }
    const above = await authority({ ...few, issues: ['publisher'] }, ['authority'], top)
    const posing = await publisherCertificate(
      above,
      { subject: keysOf('stranger'), names: ['evil/x'], rights: ['delegate'] },
      ['region'],
    )
    const revoked = [{ certificate: delegate.fingerprint, at: now, reason: 'because' }]
    const highest = { sequence: Number.MAX_SAFE_INTEGER, revoked }
    await trust.accept((await revocations(posing, [posing, above, top], highest, 'stranger')).bytes)
    await trust.prove(chain, { kind: 'any' })
    // Nor does its number stand in the way of who may.
    await trust.accept((await revocations(own, [own, top], { revoked }, 'publisher')).bytes)
    await expect(trust.prove(chain, { kind: 'any' })).rejects.toMatchObject({ code: 'certificate-revoked' })
  })
})

describe('a publisher', () => {
  const fresh = async () => {
    const catalogue = new Catalogue({ records: new MemoryKeyValue(), log: silentLog })
    await catalogue.start()
    return catalogue
  }

  it('with many large heads that are refused takes a few MiB of memory, and no more', async () => {
    const catalogue = await fresh()
    const names = Array.from({ length: 30 }, (_, at) => `evil/n${at}`)
    for (const name of names) {
      await catalogue.addHead(head({ name, sequence: 2, previous: cidOf(Buffer.from(name)), versions: [] }))
      for (let turn = 0; turn < 4; turn++)
        await expect(
          catalogue.addHead(head({ name, sequence: 1, versions: versions(`${name} ${turn}`) })),
        ).rejects.toMatchObject({ code: 'stale-record' })
    }
    let bytes = 0
    for (const name of names)
      for (const { bytes: kept } of await catalogue.divergent(alice, name)) bytes += kept.byteLength
    expect(bytes).toBeGreaterThan(1024 * 1024)
    expect(bytes).toBeLessThanOrEqual(4 * 1024 * 1024)
  })

  it('that contradicts itself without end has few proofs kept, which are given to peers as long as they hold', async () => {
    const catalogue = await fresh()
    const name = 'evil/tool'
    const first = head({ name, sequence: 1, versions: versions('a') })
    await catalogue.addHead(first)
    for (let turn = 0; turn < 12; turn++) {
      const proof = equivocationOf(first, head({ name, sequence: 1, versions: versions(`b${turn}`) }))
      await catalogue.addEquivocation(proof as Verified<Equivocation>).catch(() => undefined)
    }
    expect(await catalogue.contradictions(alice, name)).toHaveLength(8)
    expect(await catalogue.recordsOf(name)).toHaveLength(9)
    // A later head by another machine that lists everything puts right what it can.
    const proofs = await catalogue.contradictions(alice, name)
    const all = proofs.flatMap(({ heads }) => heads)
    const united = first.statement.versions.map(item => ({ ...item, revoked: 'Two under one version.' }))
    await catalogue.addHead(head({ name, sequence: 2, previous: first.id, versions: united }, 1))
    expect(all).toHaveLength(16)
    expect(await catalogue.recordsOf(name)).toHaveLength(1)
  })
})
