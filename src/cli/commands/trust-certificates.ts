// `catalog trust invite|grant|revoke|issue|issued`.
import { open, writeFile } from 'node:fs/promises'
import { CatalogError } from '../../base/errors.ts'
import type { GrantResult, IssuedCertificate } from '../../control/certificates-api.ts'
import type { Run } from '../command.ts'
import { secondsOf } from '../duration.ts'
import { formatFacts } from '../facts.ts'
import { formatTable } from '../table.ts'
import { formatTime, plural, shortId } from '../text.ts'

type Options = Readonly<Record<string, unknown>>
const maxRequestBytes = 48 * 1024

export const invite: Run = async ({ client, signal, options, print }) => {
  const expires = options['expires'] as string | undefined
  const name = options['name'] as string | undefined
  const made = await client.invite(
    {
      ...memberOf(options),
      ...(expires === undefined ? {} : { expiresSeconds: secondsOf(expires, '--expires') }),
      ...(name === undefined ? {} : { name }),
    },
    { signal },
  )
  print(made, () =>
    [
      made.invite,
      '',
      `One node can join with this line until ${formatTime(made.expires)}; keep it secret until then. On that machine:`,
      '  catalog init --join INVITE',
    ].join('\n'),
  )
  return 0
}

export const grant: Run = async ({ client, signal, operands, options, print }) => {
  const to = options['to'] as string | undefined
  if (to === undefined)
    throw new CatalogError(
      'invalid-request',
      'Whom to? --to PEER takes the peer id that `catalog status` shows on the other node.',
    )
  const freshen = options['freshen'] === true
  const rights = options['rights'] as string | undefined
  if (freshen && rights !== undefined)
    throw new CatalogError('invalid-request', '--freshen is a right of its own: leave --rights out.')
  const delegate = freshen || options['delegate'] === true
  const granted = await client.grant(
    {
      ...{ names: operands, to },
      ...(delegate ? { delegate } : {}),
      ...(freshen ? { rights: ['freshen'] } : rights === undefined ? {} : { rights: listOf(rights) }),
    },
    { signal },
  )
  print(granted, () => describe(granted))
  return 0
}

function describe({
  by,
  peer,
  names,
  rights,
  publisher,
  notAfter,
  delivered,
  warnings,
  certificate,
}: GrantResult): string {
  const sentence =
    by === 'authority'
      ? `${peer} holds these names as its own publisher.`
      : `${peer} signs for these names as this node’s publisher.`
  return [
    delivered ? sentence : `${sentence} It is not connected: it gets the certificate when it is.`,
    formatFacts([
      ['Publisher', publisher],
      ['Names', names.join(', ')],
      ['Rights', rights.join(', ')],
      ['Until', formatTime(notAfter)],
      ['Certificate', certificate],
    ]),
    ...warnings.map(warning => `Warning: ${warning}`),
  ].join('\n')
}

export const revoke: Run = async ({ client, signal, operands, options, print }) => {
  const reason = options['reason'] as string | undefined
  const request = {
    target: operands[0] ?? '',
    ...(reason === undefined ? {} : { reason }),
    ...(options['allowRotation'] === true ? { allowRotation: true } : {}),
  }
  const done = await client.revokeCertificates(request, { signal })
  print(done, () =>
    [
      `Revoked ${plural(done.revoked.length, 'certificate')}. Connected nodes hear of it at once, others when they sync.`,
      ...done.revoked.map(certificate => `  ${certificate}`),
    ].join('\n'),
  )
  return 0
}

export const issue: Run = async ({ client, signal, operands, options, json, print }) => {
  const request = await readRequest(operands[0] ?? '')
  const out = options['out'] as string | undefined
  const made = await client.issueCertificates({ request, ...memberOf(options) }, { signal })
  if (out !== undefined) await writeNew(out, made.membership)
  print(out === undefined ? made : { ...made, out }, () =>
    out === undefined && !json
      ? made.membership.trimEnd()
      : `${made.peer} is a member with the answer in ${out}. Take it there: catalog init --membership FILE --root ${made.root}`,
  )
  return 0
}

async function readRequest(path: string): Promise<string> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    throw new CatalogError('no-such-path', `There is no request file at ${path}.`, { path })
  })
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(maxRequestBytes + 1))
    if (bytesRead > maxRequestBytes)
      throw new CatalogError(
        'too-large',
        `The file ${path} is too large for a request: it has at most ${maxRequestBytes} bytes.`,
        { path },
      )
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx', mode: 0o644 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
    throw new CatalogError(
      'output-exists',
      `The answer was not written: ${path} exists. Name another file.`,
      { path },
    )
  })
}

export const issued: Run = async ({ client, signal, options, print }) => {
  const all = await client.issuedCertificates({ signal })
  const certificates = options['all'] === true ? all : all.filter(({ state }) => state === 'valid')
  print({ certificates }, () => {
    if (certificates.length === 0)
      return 'Nothing that still holds was issued here. `catalog trust invite` lets a node in.'
    return formatTable(
      [
        { title: 'KIND' },
        { title: 'LABEL', flexible: true },
        { title: 'PEER' },
        { title: 'GRANTS', flexible: true },
        { title: 'UNTIL' },
        { title: 'CERTIFICATE', flexible: true },
      ],
      certificates.map(one => [
        one.type,
        one.label ?? '',
        shortId(one.peer ?? ''),
        (one.names ?? one.roles ?? []).join(', '),
        until(one),
        one.certificate,
      ]),
    )
  })
  return 0
}

function until({ state, notAfter, revokedAt = '', reason }: IssuedCertificate): string {
  if (state === 'revoked') return `revoked ${formatTime(revokedAt)}: ${reason}`
  return state === 'expired' ? `expired ${formatTime(notAfter)}` : formatTime(notAfter)
}

function memberOf(options: Options) {
  const [label, can] = [options['label'] as string | undefined, options['can'] as string | undefined]
  const roles = options['role'] as readonly string[] | undefined
  return {
    ...(label === undefined ? {} : { label }),
    ...(roles === undefined ? {} : { roles }),
    ...(can === undefined ? {} : { capabilities: listOf(can) }),
  }
}

const listOf = (text: string): string[] => text.split(',').map(part => part.trim())
