// The trust calls of a NodeApi in memory: a network of one node that may do everything.
import type { CanQuestion, ExportRequest, TrustApi, TrustView } from '../../src/control/trust-calls.ts'

const fingerprint = `b${'a'.repeat(55)}`
const standing = { state: 'current' } as const
const common = { subject: fingerprint, issuer: fingerprint, notBefore: 0, notAfter: 1, standing }

export class MemoryTrust implements TrustApi {
  async show(): Promise<TrustView> {
    return {
      network: {
        ...{ name: 'memory', root: fingerprint, version: 1, threshold: 1 },
        ...{ keys: [fingerprint], notAfter: 1, revoked: [] },
      },
      standing,
      node: { type: 'node', certificate: fingerprint, roles: ['store'], capabilities: ['fetch'], ...common },
      publishers: [
        {
          ...{ type: 'publisher', certificate: fingerprint, publisher: fingerprint, names: ['*'] },
          ...{ rights: ['publish'], ...common },
        },
      ],
      authorities: [],
    }
  }

  async can({ operation }: CanQuestion) {
    return {
      allowed: true,
      who: 'memory',
      checks: [{ check: 'membership', holds: true, says: `may ${operation}` }],
    }
  }

  async export({ x509 = false }: ExportRequest) {
    return { certificate: fingerprint, form: x509 ? ('x509' as const) : ('catalog' as const), pem: '-----\n' }
  }
}
