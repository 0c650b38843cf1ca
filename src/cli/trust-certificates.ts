// `catalog trust invite|grant|revoke|issue|issued`: who is a member of the network, and who holds which names.
import type { Command, CommandOption } from './command.ts'

const load = (verb: 'invite' | 'grant' | 'revoke' | 'issue' | 'issued') => async () => ({
  run: (await import('./commands/trust-certificates.ts'))[verb],
})

const memberOptions: readonly CommandOption[] = [
  { flags: '--label <text>', summary: 'what the node is called, for people' },
  {
    flags: '--role <role>',
    summary: 'store, execute, relay or authority (repeatable; default: the first three)',
    repeat: true,
    complete: ['store', 'execute', 'relay', 'authority'],
  },
  {
    flags: '--can <list>',
    summary: 'fetch, publish, replicate, execute, separated by commas (default: all)',
  },
]

export const certificateCommands: readonly Command[] = [
  {
    name: 'invite',
    operands: [],
    summary: 'make a line with which one node joins the network',
    more: 'Only on a node that is an authority. The line is a secret until it was used: whoever has it can join once.',
    options: [
      { flags: '--expires <time>', summary: 'for example 12h or 7d (default: 24h)' },
      { flags: '--name <name>', summary: 'a name in DNS that leads to the network, beside the addresses' },
      ...memberOptions,
    ],
    examples: [
      ['catalog trust invite --label laboratory-3', 'then, on the other machine: catalog init --join INVITE'],
      ['catalog trust invite --expires 7d --name catalog.example.org', ''],
      ['catalog trust invite --json | jq -r .invite', 'the line alone'],
    ],
    load: load('invite'),
  },
  {
    name: 'grant',
    operands: ['<pattern...>'],
    summary: 'grant package names to a node’s publisher, or let it sign for this one',
    more:
      'A pattern is a name, scope/*, prefix-* or *. On an authority the names are added to what the peer’s own publisher ' +
      'holds. With --delegate, or on a node that is no authority, the peer signs as the publisher of this node: one ' +
      'publisher on two machines. A peer that is away gets its certificate when it connects.',
    options: [
      { flags: '--to <peer>', summary: 'the peer id, as `catalog status` shows it there' },
      {
        flags: '--rights <list>',
        summary: 'publish, yank, delegate, freshen, separated by commas (default: all that can be given)',
      },
      { flags: '--delegate', summary: 'the peer signs as this node’s publisher' },
      { flags: '--freshen', summary: 'the peer may only extend the life of heads, as this node’s publisher' },
    ],
    examples: [
      ["catalog trust grant 'acme/*' base-runtime --to 12D3KooW…", ''],
      [
        "catalog trust grant 'acme/*' --to 12D3KooW… --delegate --rights publish,yank",
        'publish from a second machine',
      ],
      ["catalog trust grant '*' --to 12D3KooW… --freshen", 'heads stay fresh while this machine is off'],
    ],
    load: load('grant'),
  },
  {
    name: 'revoke',
    operands: ['<peer-or-certificate>'],
    summary: 'take certificates back: all of a node, or one by its fingerprint',
    more:
      'On the authority that issued them, or one above it; and on the node of a publisher what it has delegated. A revoked ' +
      'node is cut off as soon as the others hear of it.',
    options: [
      { flags: '--reason <text>', summary: 'why, for people' },
      {
        flags: '--allow-rotation',
        summary: 'of a publisher certificate: its node is trusted still, and may replace the keys',
      },
    ],
    examples: [
      ['catalog trust revoke 12D3KooW… --reason "key stolen"', ''],
      [
        'catalog trust revoke bdyq… --allow-rotation',
        'others have the publisher’s keys: then, on its node, catalog trust rotate publisher',
      ],
      ['catalog trust issued', 'shows the fingerprints'],
    ],
    load: load('revoke'),
  },
  {
    name: 'issue',
    operands: ['<request>'],
    summary: 'answer the request file of a node that cannot connect',
    more: 'The file is what `catalog init --request FILE` wrote on the other machine. Neither file is secret.',
    options: [
      {
        flags: '--out <file>',
        summary: 'write the answer here (default: standard output)',
        complete: 'path',
      },
      ...memberOptions,
    ],
    examples: [['catalog trust issue lab-3.request --out lab-3.membership', '']],
    completeOperands: 'path',
    load: load('issue'),
  },
  {
    name: 'issued',
    operands: [],
    summary: 'the certificates that this authority has issued',
    options: [{ flags: '--all', summary: 'expired and revoked ones too' }],
    examples: [
      ['catalog trust issued', ''],
      ['catalog trust issued --all --json', 'every field of each'],
    ],
    load: load('issued'),
  },
]
