// `catalog trust show|can|export`.
import { writeFile } from 'node:fs/promises'
import { CatalogError } from '../../base/errors.ts'
import {
  type CertificateView,
  type StandingView,
  type TrustOperation,
  type TrustView,
  trustOperations,
} from '../../control/trust-calls.ts'
import type { Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatTime, plural, shortId } from '../text.ts'

/** Beyond what a date can be there is no end. */
const time = (milliseconds: number) =>
  milliseconds > 8.64e15 ? 'the end of time' : formatTime(new Date(milliseconds).toISOString())

export const show: Run = async ({ client, signal, print }) => {
  const view = await client.trust({ signal })
  print(view, () => describe(view))
  return 0
}

function describe(view: TrustView): string {
  const { network, node, publishers, authority, authorities } = view
  const revoked = authorities.flatMap(one => one.revoked)
  return [
    formatFacts([
      ['Network', network.name],
      ['Root', network.root],
      [
        'Root version',
        `${network.version}: ${network.threshold} of ${plural(network.keys.length, 'key')}, until ${time(network.notAfter)}`,
      ],
      ['Membership', standingText(view.standing)],
    ]),
    section('This node', node, [
      ['Roles', node.roles?.join(', ')],
      ['May', node.capabilities?.join(', ')],
    ]),
    ...publishers.map((publisher, at) =>
      section(at === 0 ? 'Its publisher' : 'Signs also for', publisher, [
        ['Publisher', publisher.publisher],
        ['Names', publisher.names?.join(', ') || 'none: an authority grants them (`catalog trust grant`)'],
        ['Rights', publisher.rights?.join(', ')],
      ]),
    ),
    ...(authority === undefined
      ? []
      : [section('It is an authority', authority, [['Issues', authority.issues?.join(', ')]])]),
    ...authorities.map(
      ({ certificate, label, list }) =>
        `News of authority ${label ?? shortId(certificate)}: list ${list.sequence} of ${time(list.issuedAt)}, good until ${time(list.expiresAt)}`,
    ),
    revoked.length === 0
      ? 'Nothing is revoked.'
      : ['Revoked:', ...revoked.map(one => `  ${one.certificate}  ${time(one.at)}  ${one.reason}`)].join(
          '\n',
        ),
  ].join('\n\n')
}

function section(
  title: string,
  certificate: CertificateView,
  facts: readonly (readonly [string, string | undefined])[],
): string {
  const { label, notAfter, standing } = certificate
  const all: readonly (readonly [string, string | undefined])[] = [
    ['Certificate', `${certificate.certificate}${label === undefined ? '' : ` (${label})`}`],
    ...facts,
    ['Valid until', time(notAfter)],
    ...(standing.state === 'current' ? [] : [['State', standingText(standing)] as const]),
  ]
  return `${title}\n${formatFacts(all)}`
}

function standingText({ state, why }: StandingView): string {
  if (state === 'current') return 'in order'
  return `${state === 'stale' ? 'old news' : 'refused'}: ${why ?? 'no reason is known'}`
}

export const can: Run = async ({ client, signal, operands, options, print }) => {
  const [operation, name] = operands
  if (!trustOperations.includes(operation as TrustOperation))
    throw new CatalogError(
      'invalid-request',
      `${JSON.stringify(operation)} is no operation: there are ${trustOperations.join(', ')}.`,
    )
  const answer = await client.can(
    { operation: operation as TrustOperation, name, peer: options['peer'] as string | undefined },
    { signal },
  )
  print(answer, () =>
    [
      `${answer.allowed ? 'Yes' : 'No'}: ${answer.who} ${answer.allowed ? 'may' : 'may not'} ${operation}${name === undefined ? '' : ` ${name}`}.`,
      ...answer.checks.map(({ check, holds, says }) => `  ${holds ? 'ok' : 'no'}  ${check}: ${says}`),
    ].join('\n'),
  )
  return answer.allowed ? 0 : 9
}

export const exportCertificate: Run = async ({ client, signal, operands, options, print }) => {
  const [of] = operands
  const out = options['out'] as string | undefined
  const exported = await client.exportCertificate(
    { ...(of === undefined ? {} : { of }), ...(options['x509'] === true ? { x509: true } : {}) },
    { signal },
  )
  if (out !== undefined) await writeFile(out, exported.pem)
  print(exported, () =>
    out === undefined ? exported.pem.trimEnd() : `Written to ${out}: ${exported.certificate}`,
  )
  return 0
}
