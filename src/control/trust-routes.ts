// The calls about trust that change nothing (trust-calls.ts) with their schemas: the owner's alone.
import { z } from 'zod'
import type { Routes } from './access.ts'
import type { ApiOf } from './routes.ts'
import { answers, queries, type SchemaOf } from './schemas.ts'
import {
  type CanAnswer,
  type CanQuestion,
  type CertificateView,
  type ExportRequest,
  type ExportResult,
  type StandingView,
  type TrustView,
  trustOperations,
} from './trust-calls.ts'

const text = z.string()
const texts = z.array(text)
const time = z.number().describe('Milliseconds since 1970 (UTC)')

const standing = z.object({
  state: z.enum(['current', 'stale', 'refused']),
  why: text.optional(),
  since: time.optional(),
}) satisfies SchemaOf<StandingView>

const certificate = z.object({
  type: z.enum(['authority', 'node', 'publisher']),
  ...{ certificate: text, subject: text, issuer: text, label: text.optional() },
  ...{ notBefore: time, notAfter: time },
  ...{ roles: texts.optional(), capabilities: texts.optional(), publisher: text.optional() },
  ...{ names: texts.optional(), rights: texts.optional(), issues: texts.optional() },
  standing,
}) satisfies SchemaOf<CertificateView>

const view = z.object({
  network: z.object({
    ...{ name: text, root: text, version: z.number(), threshold: z.number() },
    ...{ keys: texts, notAfter: time, revoked: texts },
  }),
  standing,
  node: certificate,
  publishers: z.array(certificate),
  authority: certificate.optional(),
  authorities: z.array(
    z.object({
      certificate: text,
      label: text.optional(),
      list: z.object({ sequence: z.number(), issuedAt: time, expiresAt: time }),
      revoked: z.array(z.object({ certificate: text, at: time, reason: text })),
    }),
  ),
}) satisfies SchemaOf<TrustView>

const question = z.strictObject({
  operation: z.enum(trustOperations),
  peer: z
    .string()
    .regex(/^[A-Za-z0-9]{32,128}$/, 'is no peer id')
    .optional(),
  name: z.string().min(1).max(130).optional(),
}) satisfies SchemaOf<CanQuestion>

const verdict = z.object({
  allowed: z.boolean(),
  who: text,
  checks: z.array(z.object({ check: text, holds: z.boolean(), says: text })),
}) satisfies SchemaOf<CanAnswer>

const exportRequest = z.strictObject({
  of: z.string().min(1).max(56).optional(),
  x509: z.boolean().optional(),
}) satisfies SchemaOf<ExportRequest>

const exported = z.object({
  certificate: text,
  form: z.enum(['catalog', 'x509']),
  pem: text,
}) satisfies SchemaOf<ExportResult>

const answer = (schema: z.ZodType) => ({ 200: schema, default: answers.error })

export function addTrustRoutes(app: Routes, api: ApiOf): void {
  const config = { requires: 'administer' } as const
  app.get(
    '/v1/trust',
    {
      config,
      schema: {
        summary: 'What this node believes of its network, and who it is there',
        querystring: queries.none,
        response: answer(view),
      },
    },
    async call => api(call).trust.show(),
  )
  app.post(
    '/v1/trust/can',
    {
      config,
      schema: {
        summary: 'Whether an operation would be allowed, and why',
        body: question,
        response: answer(verdict),
      },
    },
    call => api(call).trust.can(call.body as CanQuestion),
  )
  app.post(
    '/v1/trust/export',
    {
      config,
      schema: {
        summary: 'A certificate with its chain, in PEM',
        body: exportRequest,
        response: answer(exported),
      },
    },
    call => api(call).trust.export(call.body as ExportRequest),
  )
}
