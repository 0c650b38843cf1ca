// The calls about the network's root (roots-api.ts) with their schemas: the owner's alone.
import { z } from 'zod'
import type { Routes } from './access.ts'
import type { NoticeRequest, NoticeResult, RootState } from './roots-api.ts'
import type { ApiOf } from './routes.ts'
import { answers, queries, type SchemaOf } from './schemas.ts'

/** The largest notice is a revocation list of 126 KiB. */
const maxDocument = 176 * 1024

const request = z.strictObject({
  document: z
    .string()
    .min(1)
    .max(maxDocument)
    .regex(/^[A-Za-z0-9+/]+={0,2}$/, 'is not base64'),
}) satisfies SchemaOf<NoticeRequest>

const rootState = z.object({
  version: z.number(),
  fingerprint: z.string(),
  network: z.string().describe('Fingerprint of the first root'),
  document: z.string().describe('Canonical CBOR, in base64'),
  authorities: z.array(z.string()).describe('Certificates that a root issued'),
  roots: z.array(z.string()).describe('Every root from the first on, in base64'),
}) satisfies SchemaOf<RootState>

const outcome = z.object({ outcome: z.enum(['added', 'known', 'waiting']) }) satisfies SchemaOf<NoticeResult>

const answer = (schema: z.ZodType) => ({ 200: schema, default: answers.error })

export function addRootRoutes(app: Routes, api: ApiOf): void {
  const config = { requires: 'administer' } as const
  app.get(
    '/v1/trust/root',
    {
      config,
      schema: {
        summary: "The network's newest root",
        querystring: queries.none,
        response: answer(rootState),
      },
    },
    async call => api(call).roots.current(),
  )
  app.post(
    '/v1/trust/notices',
    {
      config,
      schema: {
        summary: 'Take and spread a root document or a revocation list that came another way',
        body: request,
        response: answer(outcome),
      },
    },
    async call => api(call).roots.accept(call.body as NoticeRequest),
  )
}
