// The calls by which a publisher marks what it has published, and the one that shows who contradicted themselves.
import type { z } from 'zod'
import type { Routes } from './access.ts'
import type { DeprecateRequest, YankRequest } from './api.ts'
import type { ApiOf, SignalOf } from './routes.ts'
import { answers, queries, requests } from './schemas.ts'

const answer = (schema: z.ZodType) => ({ 200: schema, default: answers.error })

export function addMarkRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  app.post(
    '/v1/yank',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Say that nobody should take up a version; undo=true takes it back, revoke=true is for good',
        body: requests.yank,
        response: answer(answers.marked),
      },
    },
    request => api(request).yank(request.body as YankRequest, { signal: signalOf(request) }),
  )
  app.post(
    '/v1/deprecate',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Say that a package has had its day; undo=true takes it back',
        body: requests.deprecate,
        response: answer(answers.marked),
      },
    },
    request => api(request).deprecate(request.body as DeprecateRequest, { signal: signalOf(request) }),
  )
  app.get(
    '/v1/equivocations',
    {
      config: { requires: 'fetch' },
      schema: {
        summary: 'Proofs that publishers signed two heads under one number',
        querystring: queries.none,
        response: answer(answers.equivocations),
      },
    },
    async request => ({ equivocations: await api(request).equivocations() }),
  )
}
