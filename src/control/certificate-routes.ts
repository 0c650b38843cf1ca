// The calls about certificates (certificates-api.ts) with their schemas: the owner's alone.
import { z } from 'zod'
import { nodeCapabilities, nodeRoles, publisherRights } from '../trust/certificate.ts'
import { isNamePattern } from '../trust/name-pattern.ts'
import type { Routes } from './access.ts'
import type {
  GrantRequest,
  GrantResult,
  InviteRequest,
  InviteResult,
  IssuedCertificate,
  IssueRequest,
  IssueResult,
  RevokeRequest,
  RevokeResult,
  RotateRequest,
  RotateResult,
} from './certificates-api.ts'
import type { ApiOf, SignalOf } from './routes.ts'
import { answers, queries, type SchemaOf } from './schemas.ts'

const label = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\p{C}]*$/u, 'has control characters')
const peer = z.string().regex(/^[A-Za-z0-9]{32,128}$/, 'is no peer id')
const member = {
  label: label.optional(),
  roles: z.array(z.enum(nodeRoles)).max(nodeRoles.length).optional(),
  capabilities: z.array(z.enum(nodeCapabilities)).max(nodeCapabilities.length).optional(),
}
/** A request's file is 12 KiB with three pairs of keys. */
const maxRequestLength = 48 * 1024

const requests = {
  invite: z.strictObject({
    expiresSeconds: z.number().positive().max(31_536_000).optional(),
    name: z.string().min(1).max(253).optional(),
    ...member,
  }) satisfies SchemaOf<InviteRequest>,
  grant: z.strictObject({
    names: z
      .array(z.string().refine(isNamePattern, 'is no name or pattern: write a name, scope/*, prefix-* or *'))
      .min(1)
      .max(64),
    to: peer,
    rights: z.array(z.enum(publisherRights)).min(1).max(publisherRights.length).optional(),
    delegate: z.boolean().optional(),
  }) satisfies SchemaOf<GrantRequest>,
  revoke: z.strictObject({
    target: z
      .string()
      .regex(/^[A-Za-z0-9]{32,128}$/, 'is neither a peer id nor the fingerprint of a certificate'),
    reason: z.string().max(200).optional(),
    allowRotation: z.boolean().optional(),
  }) satisfies SchemaOf<RevokeRequest>,
  rotate: z.strictObject({
    what: z.literal('publisher'),
    revokeOld: z.boolean().optional(),
    reason: label.max(200).optional(),
  }) satisfies SchemaOf<RotateRequest>,
  issue: z.strictObject({
    request: z.string().min(1).max(maxRequestLength),
    ...member,
  }) satisfies SchemaOf<IssueRequest>,
}

const text = z.string()
const texts = z.array(text)
const issued = z.object({
  certificate: text,
  type: z.enum(['authority', 'node', 'publisher']),
  label: text.optional(),
  peer: text.optional(),
  publisher: text.optional(),
  names: texts.optional(),
  rights: texts.optional(),
  roles: texts.optional(),
  capabilities: texts.optional(),
  issuedAt: text,
  notAfter: text,
  state: z.enum(['valid', 'expired', 'revoked']),
  revokedAt: text.optional(),
  reason: text.optional(),
}) satisfies SchemaOf<IssuedCertificate>

const results = {
  invite: z.object({
    invite: text.describe('One line, to be kept secret until it is used'),
    expires: text,
  }) satisfies SchemaOf<InviteResult>,
  grant: z.object({
    ...{ certificate: text, publisher: text, peer: text, names: texts, rights: texts, notAfter: text },
    by: z.enum(['authority', 'delegation']),
    delivered: z.boolean().describe('false: the peer gets it when it connects'),
    warnings: texts,
  }) satisfies SchemaOf<GrantResult>,
  revoke: z.object({ revoked: texts, sequence: z.number(), expires: text }) satisfies SchemaOf<RevokeResult>,
  issue: z.object({
    membership: text,
    root: text,
    peer: text,
    publisher: text,
  }) satisfies SchemaOf<IssueResult>,
  issued: z.object({ certificates: z.array(issued) }),
  rotate: z.object({
    ...{ publisher: text, certificate: text, keys: text, notAfter: text, by: text },
    previous: z.object({ certificate: text, keys: text, revoked: z.boolean() }),
    heads: z.number().describe('How many heads were signed anew'),
    warnings: texts,
  }) satisfies SchemaOf<RotateResult>,
}

const answer = (schema: z.ZodType) => ({ 200: schema, default: answers.error })

export function addCertificateRoutes(app: Routes, api: ApiOf, signalOf: SignalOf): void {
  const config = { requires: 'administer' } as const
  app.post(
    '/v1/trust/invites',
    {
      config,
      schema: {
        summary: 'Invite one node into the network',
        body: requests.invite,
        response: answer(results.invite),
      },
    },
    request => api(request).certificates.invite(request.body as InviteRequest),
  )
  app.post(
    '/v1/trust/grants',
    {
      config,
      schema: {
        summary: "Grant package names to a peer, or let it sign as this node's publisher",
        body: requests.grant,
        response: answer(results.grant),
      },
    },
    request => api(request).certificates.grant(request.body as GrantRequest, { signal: signalOf(request) }),
  )
  app.post(
    '/v1/trust/revocations',
    {
      config,
      schema: { summary: 'Take certificates back', body: requests.revoke, response: answer(results.revoke) },
    },
    request => api(request).certificates.revoke(request.body as RevokeRequest),
  )
  app.post(
    '/v1/trust/certificates',
    {
      config,
      schema: {
        summary: 'Answer the request file of a new node',
        body: requests.issue,
        response: answer(results.issue),
      },
    },
    request => api(request).certificates.issue(request.body as IssueRequest),
  )
  app.post(
    '/v1/trust/rotations',
    {
      config,
      schema: {
        summary: "Replace the keys of this node's publisher",
        body: requests.rotate,
        response: answer(results.rotate),
      },
    },
    request => api(request).certificates.rotate(request.body as RotateRequest, { signal: signalOf(request) }),
  )
  app.get(
    '/v1/trust/certificates',
    {
      config,
      schema: {
        summary: 'What this authority has issued',
        querystring: queries.none,
        response: answer(results.issued),
      },
    },
    async request => ({ certificates: await api(request).certificates.issued() }),
  )
}
