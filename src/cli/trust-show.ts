// `catalog trust show|can|export`: what this node believes, who it is, and what it may do.
import type { Command } from './command.ts'

const load = (verb: 'show' | 'can' | 'exportCertificate') => async () => ({
  run: (await import('./commands/trust-show.ts'))[verb],
})

const operations = ['fetch', 'publish', 'yank', 'delegate', 'replicate', 'execute', 'administer']

export const showCommands: readonly Command[] = [
  {
    name: 'show',
    operands: [],
    summary: 'the network, this node’s certificates, and what is revoked',
    options: [],
    examples: [
      ['catalog trust show', ''],
      ['catalog trust show --json', 'every field'],
    ],
    load: load('show'),
  },
  {
    name: 'can',
    operands: ['<operation>', '[name]'],
    summary: 'whether something would be allowed, and why',
    more: `An operation is one of ${operations.join(', ')}. With --peer: whether that connected node may ask it of this one. Exits with 9 when the answer is no.`,
    options: [{ flags: '--peer <peer>', summary: 'another node, asking this one' }],
    examples: [
      ['catalog trust can publish acme/tool', ''],
      ['catalog trust can execute --peer 12D3KooW…', ''],
    ],
    completeOperands: operations,
    load: load('can'),
  },
  {
    name: 'export',
    operands: ['[certificate]'],
    summary: 'a certificate with its chain, in PEM',
    more:
      'node (default), publisher, authority, or the fingerprint of one that this authority has issued. As X.509 it can ' +
      'be exported where its issuer’s key is: on the authority.',
    options: [
      { flags: '--x509', summary: 'the Ed25519 part as X.509, for tools that know no other form' },
      { flags: '--out <file>', summary: 'write it here (default: standard output)', complete: 'path' },
    ],
    examples: [
      ['catalog trust export', 'what others check of this node'],
      ['catalog trust export FINGERPRINT --x509 --out lab-3.pem', ''],
    ],
    completeOperands: ['node', 'publisher', 'authority'],
    load: load('exportCertificate'),
  },
]
