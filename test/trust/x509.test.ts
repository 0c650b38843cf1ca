// X.509: what is exported is read and verified by OpenSSL, what is imported is checked, and nothing else comes in.
import { spawnSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isCatalogError } from '../../src/base/errors.ts'
import type { AuthorityGrant, Certificate, NodeGrant, PublisherGrant } from '../../src/trust/certificate.ts'
import { chainLabel, decodeChainPem, decodePem, encodeChainPem, encodePem } from '../../src/trust/pem.ts'
import { chainExtension, exportX509 } from '../../src/trust/x509.ts'
import { importX509 } from '../../src/trust/x509-import.ts'
import {
  authority,
  day,
  type Holder,
  keysOf,
  network,
  nodeCertificate,
  now,
  publisherCertificate,
  signers,
} from './test-network.ts'

const openssl = (args: readonly string[], input?: string) => {
  const { status, stdout, stderr, error } = spawnSync('openssl', args, {
    encoding: 'utf8',
    timeout: 20_000,
    ...(input === undefined ? {} : { input }),
  })
  if (error !== undefined) throw error
  return { status, output: `${stdout}${stderr}` }
}
const missing = spawnSync('openssl', ['version']).status !== 0

let directory: string
let top: Certificate<AuthorityGrant>
let region: Certificate<AuthorityGrant>
let node: Certificate<NodeGrant>
let deepNode: Certificate<NodeGrant>
let publisher: Certificate<PublisherGrant>
let delegate: Certificate<PublisherGrant>
const pem: Record<string, string> = {}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'catalog-x509-'))
  top = await authority({ label: 'Test authority', maxPathLength: 1, notAfter: now + 365 * day })
  region = await authority(
    { subject: keysOf('region'), maxPathLength: 0, label: 'Région du Nord' },
    ['authority'],
    top,
  )
  node = await nodeCertificate(top, { label: 'node-1.example.org' })
  deepNode = await nodeCertificate(region, {}, ['region'])
  publisher = await publisherCertificate(top, { label: 'x'.repeat(65) })
  delegate = await publisherCertificate(publisher, { subject: keysOf('delegate'), rights: ['publish'] }, [
    'publisher',
  ])
  pem['top'] = await exportX509([top], signers.authority)
  pem['region'] = await exportX509([region, top], signers.authority)
  pem['node'] = await exportX509([node, top], signers.authority)
  pem['deepNode'] = await exportX509([deepNode, region, top], signers.region)
  pem['publisher'] = await exportX509([publisher, top], signers.authority)
  for (const [name, text] of Object.entries(pem)) await writeFile(join(directory, `${name}.pem`), text)
})
afterAll(() => rm(directory, { recursive: true }))

const file = (name: string) => join(directory, `${name}.pem`)

const pkcs8 = (holder: Holder): string => {
  const prefix = Buffer.from('302e020100300506032b657004220420', 'hex')
  return encodePem('PRIVATE KEY', Buffer.concat([prefix, signers[holder].keys.ed25519.secretKey]))
}

describe('an exported certificate', () => {
  it.skipIf(missing)('is read by OpenSSL as what it is (SKIP without openssl)', () => {
    const { output, status } = openssl([
      'x509',
      '-in',
      file('node'),
      '-noout',
      '-text',
      '-nameopt',
      'utf8,sname',
    ])
    expect(status).toBe(0)
    expect(output).toContain('Version: 3')
    expect(output).toContain('Signature Algorithm: ED25519')
    expect(output).toMatch(/Subject:.*CN ?= ?node-1\.example\.org/)
    expect(output).toMatch(/Issuer:.*CN ?= ?Test authority/)
    expect(output).toContain(`URI:catalog:${network}/node/${node.fingerprint}`)
    expect(output).toMatch(/Basic Constraints: critical\s+CA:FALSE/)
    expect(output).toMatch(/Key Usage: critical\s+Digital Signature\n/)
    expect(output).toMatch(/TLS Web Client Authentication, TLS Web Server Authentication/)
    expect(output).toContain(chainExtension)
    expect(output).not.toContain(`${chainExtension}: critical`)
    const ca = openssl(['x509', '-in', file('region'), '-noout', '-text', '-nameopt', 'utf8,sname']).output
    expect(ca).toMatch(/CN ?= ?Région du Nord/)
    expect(ca).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/)
    expect(ca).toMatch(/Key Usage: critical\s+Certificate Sign\n/)
    expect(openssl(['x509', '-in', file('publisher'), '-noout', '-subject']).output).toContain(
      publisher.fingerprint,
    )
  })

  const verify = (leaf: string, at: number, ...more: readonly string[]) =>
    openssl([
      'verify',
      '-x509_strict',
      '-attime',
      String(Math.floor(at / 1000)),
      '-CAfile',
      file('top'),
      ...more,
      file(leaf),
    ])

  it.skipIf(missing)(
    'is verified by OpenSSL up to its authority, for its purpose (SKIP without openssl)',
    () => {
      expect(verify('node', now, '-purpose', 'sslclient')).toMatchObject({
        status: 0,
        output: expect.stringContaining('OK'),
      })
      expect(verify('node', now, '-purpose', 'sslserver').status).toBe(0)
      expect(verify('top', now).status).toBe(0)
      expect(verify('publisher', now).status).toBe(0)
      expect(verify('deepNode', now, '-untrusted', file('region')).status).toBe(0)
    },
  )

  it.skipIf(missing)('is refused by OpenSSL where ours would be (SKIP without openssl)', async () => {
    expect(verify('node', node.notAfter + 1000).output).toContain('has expired')
    expect(verify('node', node.notBefore - 1000).output).toContain('not yet valid')
    expect(verify('publisher', now, '-purpose', 'sslclient').status).not.toBe(0)
    // Without the certificate in between.
    expect(verify('deepNode', now).status).not.toBe(0)
    // Below another authority than the path length leaves room for; X.509 does not count the last of a chain.
    const third = await authority({ subject: keysOf('stranger'), maxPathLength: 0 }, ['region'], region)
    const below = await nodeCertificate(third, {}, ['stranger'])
    await writeFile(file('third'), await exportX509([third, region, top], signers.region))
    await writeFile(file('below'), await exportX509([below, third, region, top], signers.stranger))
    const between = ['-untrusted', file('region'), '-untrusted', file('third')]
    expect(verify('below', now, ...between).output).toContain('path length')
    // A bit of the signature.
    const [block] = decodePem(pem['node'] ?? '', 'node')
    const bytes = Buffer.from(block?.bytes ?? [])
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1
    await writeFile(file('bent'), encodePem('CERTIFICATE', bytes))
    expect(verify('bent', now).output).toContain('signature failure')
  })

  it('is verified by Node too, and says the same', () => {
    const [leaf, issuer] = [new X509Certificate(pem['node'] ?? ''), new X509Certificate(pem['top'] ?? '')]
    expect(leaf.verify(issuer.publicKey)).toBe(true)
    expect(leaf.checkIssued(issuer)).toBe(true)
    expect(leaf.ca).toBe(false)
    expect(issuer.ca).toBe(true)
    expect(leaf.serialNumber).toBe(
      Buffer.from(node.serial)
        .toString('hex')
        .toUpperCase()
        .replace(/^(00)+/, ''),
    )
    expect(leaf.validToDate.getTime()).toBe(node.notAfter)
    expect(leaf.subjectAltName).toBe(`URI:catalog:${network}/node/${node.fingerprint}`)
  })

  it('never lives longer than ours, to the second', async () => {
    const odd = await nodeCertificate(top, { notBefore: now + 1, notAfter: now + 1999 })
    const x509 = new X509Certificate(await exportX509([odd, top], signers.authority))
    expect([x509.validFromDate.getTime(), x509.validToDate.getTime()]).toEqual([now + 1000, now + 1000])
  })

  it.each([
    ['a serial that looks negative', { serial: new Uint8Array(16).fill(0xff) }],
    ['a serial of zeros', { serial: new Uint8Array(16) }],
    ['an end after 2049', { notAfter: Date.UTC(2051, 0, 1) }],
    ['no end', { notAfter: Number.MAX_SAFE_INTEGER }],
  ])('with %s is one that others read', async (_, changes) => {
    const odd = await nodeCertificate(top, changes)
    const text = await exportX509([odd, top], signers.authority)
    expect(new X509Certificate(text).validToDate.getTime()).toBeGreaterThan(now)
    if (missing) return
    await writeFile(file('odd'), text)
    expect(verify('odd', now)).toMatchObject({ status: 0 })
  })

  it.each<[string, () => Promise<string>, string]>([
    ['by the node itself', () => exportX509([node, top], signers.node), 'capability-missing'],
    ['by another authority', () => exportX509([node, top], signers.region), 'capability-missing'],
    [
      'of an authority by itself, where another issued it',
      () => exportX509([region, top], signers.region),
      'capability-missing',
    ],
    [
      'of what a publisher delegated',
      () => exportX509([delegate, publisher, top], signers.publisher),
      'invalid-request',
    ],
    ['of nothing', () => exportX509([], signers.authority), 'invalid-request'],
    [
      'of a node that the root issued',
      async () =>
        exportX509([await nodeCertificate(top, { issuer: network }, ['root-1', 'root-2'])], signers.node),
      'invalid-request',
    ],
  ])('is not made %s', async (_, make, code) => {
    await expect(make()).rejects.toMatchObject({ code })
  })
})

describe('a chain in PEM', () => {
  it('goes out and comes back whole', () => {
    const chain = [deepNode, region, top]
    const text = encodeChainPem(chain)
    expect(text.match(/BEGIN CATALOG CERTIFICATE/g)).toHaveLength(3)
    expect(decodeChainPem(`A comment before.\r\n${text.replaceAll('\n', '\r\n')}`, 'The file')).toEqual(chain)
  })

  const one = () => encodePem(chainLabel, node.bytes)
  it.each<[string, () => string, string]>([
    ['nothing', () => '', 'certificate-malformed'],
    ['a block without an end', () => one().split('-----END')[0] ?? '', 'certificate-malformed'],
    ['a block within a block', () => `-----BEGIN A-----\n${one()}`, 'certificate-malformed'],
    ['an end without a beginning', () => `-----END A-----\n${one()}`, 'certificate-malformed'],
    ['an end of another block', () => one().replace('END CATALOG', 'END OTHER'), 'certificate-malformed'],
    ['what is no base64', () => one().replace(/\n(.)/, '\n!'), 'certificate-malformed'],
    [
      'an empty block',
      () => `-----BEGIN ${chainLabel}-----\n-----END ${chainLabel}-----\n`,
      'certificate-malformed',
    ],
    ['a header of dashes', () => `-----BEGIN\n${one()}`, 'certificate-malformed'],
    ['a key among them', () => `${one()}${pkcs8('node')}`, 'certificate-malformed'],
    ['nine certificates', () => one().repeat(9), 'certificate-malformed'],
    ['seventeen blocks', () => encodePem('A', Buffer.from('x')).repeat(17), 'certificate-malformed'],
    ['a mebibyte', () => 'x'.repeat(2 ** 20), 'too-large'],
  ])('is refused with %s', (_, make, code) => {
    expect(() => decodeChainPem(make(), 'The file')).toThrow(expect.objectContaining({ code }))
    expect(decodeChainPem(one(), 'The file')).toEqual([node])
  })
})

describe('an imported certificate', () => {
  const read = (text: string, at = now) => importX509(text, 'The file node.pem', at)

  it('of ours gives the key, the label and the chain', () => {
    const found = read(`${pem['node']}${pkcs8('node')}`)
    expect(found).toEqual({
      nodeKeySeed: signers.node.keys.ed25519.secretKey,
      label: 'node-1.example.org',
      notBefore: node.notBefore,
      notAfter: node.notAfter,
      chain: [node, top],
    })
    // The other order, and the chain in blocks of ours.
    expect(read(`${pkcs8('node')}${pem['node']}`)).toEqual(found)
    expect(read(`${pkcs8('node')}${pem['node']}${encodeChainPem([node, top])}`)).toEqual(found)
    // The certificates of its issuers may follow.
    expect(read(`${pem['deepNode']}${pem['region']}${pem['top']}${pkcs8('node')}`).chain).toEqual([
      deepNode,
      region,
      top,
    ])
  })

  it.skipIf(missing)('of anybody gives the key and the dates (SKIP without openssl)', async () => {
    const key = file('key')
    expect(openssl(['genpkey', '-algorithm', 'ed25519', '-out', key]).status).toBe(0)
    const made = openssl(['req', '-new', '-x509', '-key', key, '-subj', '/CN=anybody', '-days', '30'])
    expect(made.status).toBe(0)
    const text = `${made.output}${openssl(['pkey', '-in', key]).output}`
    const found = importX509(text, 'The file', Date.now())
    expect(found.label).toBe('anybody')
    expect(found.chain).toBeUndefined()
    const der = createPrivateKey(text).export({ format: 'der', type: 'pkcs8' })
    expect(found.nodeKeySeed).toEqual(new Uint8Array(der.subarray(-32)))
    expect(() => importX509(text, 'The file', Date.now() + 31 * day)).toThrow(
      expect.objectContaining({ code: 'certificate-expired' }),
    )
  })

  const other = (algorithm: 'rsa' | 'ed448' | 'ec') => {
    const options = { modulusLength: 2048, namedCurve: 'P-256' }
    const { privateKey } = generateKeyPairSync(algorithm as 'rsa', options as never)
    return (privateKey as never as { export(options: object): string }).export({
      format: 'pem',
      type: 'pkcs8',
    })
  }

  it.each<[string, () => string | Promise<string>, string, number?]>([
    ['with the key of somebody else', () => `${pem['node']}${pkcs8('stranger')}`, 'certificate-wrong-usage'],
    ['without a key', () => pem['node'] ?? '', 'certificate-wrong-usage'],
    ['without a certificate', () => pkcs8('node'), 'certificate-wrong-usage'],
    ['with two keys', () => `${pem['node']}${pkcs8('node')}${pkcs8('node')}`, 'certificate-wrong-usage'],
    ['with an RSA key', () => `${pem['node']}${other('rsa')}`, 'certificate-wrong-usage'],
    ['with an Ed448 key', () => `${pem['node']}${other('ed448')}`, 'certificate-wrong-usage'],
    ['with an elliptic curve key', () => `${pem['node']}${other('ec')}`, 'certificate-wrong-usage'],
    [
      'with an RSA key in its old form',
      () => `${pem['node']}${encodePem('RSA PRIVATE KEY', Buffer.from('x'))}`,
      'certificate-wrong-usage',
    ],
    [
      'with an encrypted key',
      () => `${pem['node']}${encodePem('ENCRYPTED PRIVATE KEY', Buffer.from('x'))}`,
      'passphrase-needed',
    ],
    [
      'with a key that is none',
      () => `${pem['node']}${encodePem('PRIVATE KEY', Buffer.from('x'))}`,
      'certificate-malformed',
    ],
    [
      'with a certificate that is none',
      () => `${encodePem('CERTIFICATE', Buffer.from('x'))}${pkcs8('node')}`,
      'certificate-malformed',
    ],
    [
      'with something else',
      () => `${pem['node']}${pkcs8('node')}${encodePem('CERTIFICATE REQUEST', Buffer.from('x'))}`,
      'certificate-wrong-usage',
    ],
    ['of an authority', () => `${pem['top']}${pkcs8('authority')}`, 'certificate-wrong-usage'],
    ['of a publisher', () => `${pem['publisher']}${pkcs8('publisher')}`, 'certificate-wrong-usage'],
    [
      'with the chain of another node beside it',
      async () => {
        const stranger = await nodeCertificate(top, { subject: keysOf('stranger') })
        return `${pem['node']}${pkcs8('node')}${encodeChainPem([stranger, top])}`
      },
      'certificate-wrong-usage',
    ],
    ['that has expired', () => `${pem['node']}${pkcs8('node')}`, 'certificate-expired', 91 * day],
    ['that is not valid yet', () => `${pem['node']}${pkcs8('node')}`, 'certificate-not-yet-valid', -2 * day],
    ['of a mebibyte', () => `${pem['node']}${pkcs8('node')}${' '.repeat(2 ** 20)}`, 'too-large'],
  ])('%s is refused', async (_, make, code, later = 0) => {
    const text = await make()
    expect(() => read(text, now + later)).toThrow(expect.objectContaining({ code }))
    expect(read(`${pem['node']}${pkcs8('node')}`).chain).toHaveLength(2)
  })

  it('that was damaged anywhere is no crash, and never another key', () => {
    const [certificate] = decodePem(pem['node'] ?? '', 'node')
    const bytes = certificate?.bytes ?? new Uint8Array()
    const outcomes = new Set<string>()
    fc.assert(
      fc.property(
        fc.nat(bytes.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        (at, change, cut) => {
          const copy = cut ? bytes.slice(0, at) : bytes.slice()
          if (!cut) copy[at] = (copy[at] ?? 0) ^ change
          try {
            const found = read(`${encodePem('CERTIFICATE', copy)}${pkcs8('node')}`)
            outcomes.add('read')
            // X.509's signature is not asked: our own chain is. Whatever was read is for this key.
            expect(Buffer.from(found.nodeKeySeed)).toEqual(Buffer.from(signers.node.keys.ed25519.secretKey))
            if (found.chain !== undefined)
              expect(found.chain[0]?.subject.ed25519).toEqual(keysOf('node').ed25519)
          } catch (error) {
            if (!isCatalogError(error)) throw error
            outcomes.add(error.code)
          }
        },
      ),
      { numRuns: 1500 },
    )
    expect(outcomes).toContain('certificate-malformed')
  })
})
