// The calls that make, list and revoke the tokens of the shared socket: the owner's alone.
import type { z } from 'zod'
import type { Routes } from './access.ts'
import type { TokenRequest } from './api.ts'
import { answers, parameters, queries, requests } from './schemas.ts'
import type { AccessTokens } from './tokens.ts'

const answer = (schema: z.ZodType) => ({ 200: schema, default: answers.error })

export function addTokenRoutes(app: Routes, tokens: AccessTokens): void {
  app.get(
    '/v1/tokens',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'The tokens of the shared socket',
        querystring: queries.none,
        response: answer(answers.tokens),
      },
    },
    async () => ({ tokens: tokens.list() }),
  )
  app.post(
    '/v1/tokens',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'Make a token for another user of this machine',
        body: requests.token,
        response: answer(answers.createdToken),
      },
    },
    request => tokens.create(request.body as TokenRequest),
  )
  app.delete(
    '/v1/tokens/:id',
    {
      config: { requires: 'administer' },
      schema: {
        summary: 'End a token, and what goes on with it',
        params: parameters.token,
        querystring: queries.none,
        response: answer(answers.token),
      },
    },
    ({ params }) => tokens.revoke((params as { id: string }).id),
  )
}
