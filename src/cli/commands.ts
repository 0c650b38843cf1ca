// Every command with its operands, options and examples, as data: help, parsing and shell completion are made of it.
// What a command does is in commands/, loaded when it runs.
import type { Command, CommandOption } from './command.ts'
import { certificateCommands } from './trust-certificates.ts'
import { rotateCommand } from './trust-rotate.ts'
import { showCommands } from './trust-show.ts'
import { tokenCommand } from './trust-token.ts'

export const globalOptions: readonly CommandOption[] = [
  {
    flags: '--home <dir>',
    summary: 'the node’s home (default: $CATALOG_HOME, else ~/.local/share/catalog)',
    complete: 'path',
  },
  {
    flags: '--socket <path>',
    summary: 'another node’s shared control socket (also CATALOG_SOCKET)',
    complete: 'path',
  },
  {
    flags: '--token-file <file>',
    summary: 'the file with the token for it (also CATALOG_TOKEN_FILE)',
    complete: 'path',
  },
  { flags: '--json', summary: 'print one JSON object (a stream: one a line) instead of text' },
]

const publisherOption: CommandOption = {
  flags: '--publisher <fingerprint>',
  summary: 'which publisher is meant, where several hold the name',
}
const staleOption: CommandOption = {
  flags: '--allow-stale',
  summary: 'take it even where nobody can say whether its publisher’s list of it still holds',
}
const forceOption: CommandOption = {
  flags: '--force',
  summary: 'write into a directory that has other files in it',
}

const passphraseOption: CommandOption = {
  flags: '--passphrase-file <file>',
  summary: 'the file with the passphrase of the keys (also CATALOG_PASSPHRASE_FILE)',
  complete: 'path',
}

const nodeCommands: readonly Command[] = [
  {
    name: 'init',
    operands: [],
    summary: 'make the home of a node, in a new network or as a member of one',
    more:
      'Never prompts, never starts the daemon. Without --join it founds a network: its root keys lie in HOME/root-keys ' +
      'and should go offline. The keys are encrypted: with the passphrase, or without one with a random key in ' +
      'HOME/unlock.key, which belongs into no backup that holds HOME/keys. Interrupted, it can be run again. A member ' +
      'whose certificates have lapsed comes back with a new invite.',
    options: [
      { flags: '--join <invite>', summary: 'join the network of this invite (`catalog trust invite` there)' },
      { flags: '--network <name>', summary: 'the name of the new network (default: catalog)' },
      { flags: '--root-keys <count>', summary: 'keys of the new network’s root (default: 1)', number: true },
      {
        flags: '--root-threshold <count>',
        summary: 'how many of them its next version needs (default: 1)',
        number: true,
      },
      { flags: '--label <text>', summary: 'what this node is called, for people (with --join, --request)' },
      {
        flags: '--certificate <file>',
        summary: 'a PEM file with an X.509 certificate and its Ed25519 key, which becomes the node’s key',
        complete: 'path',
      },
      {
        flags: '--request <file>',
        summary:
          'without a connection: write a request for an authority to answer; a member too, to come back',
        complete: 'path',
      },
      { flags: '--authority', summary: 'with --request: this node is to be an authority too' },
      { flags: '--membership <file>', summary: 'the answer to that request', complete: 'path' },
      { flags: '--root <fingerprint>', summary: 'with --membership: which network it must be of' },
      passphraseOption,
    ],
    examples: [
      ['catalog init', 'found a network at the default place'],
      [
        'catalog init --network acme --root-keys 3 --root-threshold 2',
        'any two of three keys decide over it',
      ],
      ['catalog init --join INVITE --label laboratory-3', 'join a network'],
      ['catalog init --home /srv/node-a --json', 'make one elsewhere, and print its peer id'],
    ],
    load: () => import('./commands/init.ts'),
  },
  {
    name: 'daemon',
    operands: [],
    summary: 'run the node in the foreground',
    more: 'Once it is ready it prints one JSON line on standard output; its log goes to standard error.',
    options: [
      {
        flags: '--listen <multiaddr>',
        summary: 'listen here instead of where the config says (repeatable)',
        repeat: true,
      },
      {
        flags: '--bootstrap <address>',
        summary: 'also connect to this node at start: a multiaddr, or a name in DNS (repeatable)',
        repeat: true,
      },
      { flags: '--offer-execution', summary: 'execute packages for other nodes' },
      { flags: '--mdns', summary: 'find nodes on the local network, and be found' },
      passphraseOption,
      {
        flags: '--log-level <level>',
        summary: 'silent, error, warn, info or debug',
        complete: ['silent', 'error', 'warn', 'info', 'debug'],
      },
    ],
    examples: [
      ['catalog daemon', 'run with HOME/config.yaml'],
      ['catalog daemon --listen /ip4/0.0.0.0/udp/4414/quic-v1', 'listen on one fixed port'],
      [
        'catalog daemon --bootstrap /ip4/192.0.2.10/udp/4414/quic-v1/p2p/12D3KooW…',
        'join by a node that is known',
      ],
      ['catalog daemon --bootstrap catalog.example.org', 'join by the addresses that DNS has for a name'],
    ],
    handlesSignals: true,
    load: () => import('./commands/daemon.ts'),
  },
  {
    name: 'keys',
    operands: [],
    summary: 'the node’s keys, and what protects them',
    more:
      'Keys that come under a passphrase leave HOME/unlock.key, which is removed; older copies of the keys keep ' +
      'what protected them. A running daemon notices nothing.',
    options: [
      { flags: '--encrypt', summary: 'encrypt them with the passphrase, or without one with a key file' },
      {
        flags: '--change-passphrase <file>',
        summary: 'from now on the passphrase in this file',
        complete: 'path',
      },
      passphraseOption,
    ],
    examples: [
      ['catalog keys', ''],
      ['catalog keys --encrypt --passphrase-file ~/.catalog-passphrase', ''],
      ['catalog keys --passphrase-file old --change-passphrase new', ''],
    ],
    load: () => import('./commands/keys.ts'),
  },
  {
    name: 'demo',
    operands: [],
    summary: 'publish, fetch and execute on a private network of three nodes',
    options: [{ flags: '--keep', summary: 'leave the nodes’ homes for a look afterwards' }],
    examples: [['catalog demo', 'takes less than a minute, and cleans up']],
    handlesSignals: true,
    load: () => import('./commands/demo.ts'),
  },
  {
    name: 'status',
    operands: [],
    summary: 'what this node is and does',
    options: [],
    examples: [
      ['catalog status', ''],
      ['catalog status --json | jq -r .peerId', 'the peer id alone'],
    ],
    load: () => import('./commands/status.ts'),
  },
  {
    name: 'peers',
    operands: [],
    summary: 'the nodes it is connected to',
    options: [],
    examples: [['catalog peers', '']],
    load: () => import('./commands/peers.ts'),
  },
  {
    name: 'drain',
    operands: [],
    summary: 'hand over every copy kept here, and take no more',
    more:
      'Waits until other nodes have them; the exit code is 5 if there are too few other nodes for some. ' +
      'Interrupted, the handover goes on, also after a restart, until --undo.',
    options: [{ flags: '--undo', summary: 'take copies again' }],
    examples: [
      ['catalog drain', 'before this node goes for good'],
      ['catalog drain --undo', ''],
    ],
    load: () => import('./commands/drain.ts'),
  },
]

const releaseCommands: readonly Command[] = [
  {
    name: 'list',
    operands: [],
    summary: 'the releases it knows',
    options: [{ flags: '--held', summary: 'only those whose bytes are here' }],
    examples: [
      ['catalog list', ''],
      ['catalog list --held', 'what could be read with the network gone'],
    ],
    load: () => import('./commands/list.ts'),
  },
  {
    name: 'show',
    operands: ['<ref>'],
    summary: 'one release, and who provides it',
    options: [publisherOption],
    examples: [
      ['catalog show word-count', 'its newest version'],
      ['catalog show acme/word-count@^1.2', 'the newest of a range'],
    ],
    load: () => import('./commands/show.ts'),
  },
  {
    name: 'search',
    operands: ['<query...>'],
    summary: 'search names, tags and descriptions',
    options: [
      { flags: '--tag <tag>', summary: 'only with this tag' },
      {
        flags: '--type <type>',
        summary: 'only of this type',
        complete: ['library', 'package', 'template', 'container', 'virtual-machine'],
      },
      { flags: '--category <category>', summary: 'only of this category' },
      { flags: '--limit <count>', summary: 'at most so many (default: 20)', number: true },
    ],
    examples: [
      ['catalog search count words', ''],
      ['catalog search parser --type library --limit 5', ''],
    ],
    load: () => import('./commands/search.ts'),
  },
  {
    name: 'validate',
    operands: ['<path>'],
    summary: 'check a package directory or a manifest; needs no daemon',
    options: [],
    examples: [
      ['catalog validate .', 'the package in this directory'],
      ['catalog validate catalog.yaml --json', 'each problem with path, line and column'],
    ],
    completeOperands: 'path',
    load: () => import('./commands/validate.ts'),
  },
  {
    name: 'publish',
    operands: ['<path>'],
    summary: 'publish a package directory, or a manifest alone',
    options: [
      {
        flags: '--replicas <count>',
        summary: 'copies to keep on the network, this node’s included (default: 3)',
        number: true,
      },
    ],
    examples: [
      ['catalog publish .', 'the package in this directory'],
      ['catalog publish ./word-count --json | jq -r .id', 'its release id alone'],
    ],
    completeOperands: 'path',
    load: () => import('./commands/publish.ts'),
  },
  {
    name: 'fetch',
    operands: ['<ref...>'],
    summary: 'fetch releases, and write their files',
    more: 'Without --out the files are written to ./name-version. The exit code is not 0 if any REF failed.',
    options: [
      { flags: '--out <dir>', summary: 'write here (several REFs: below here)', complete: 'path' },
      { flags: '--no-out', summary: 'only into the node’s store' },
      forceOption,
      publisherOption,
      staleOption,
    ],
    examples: [
      ['catalog fetch word-count', 'into ./word-count-1.2.0'],
      ['catalog fetch word-count@^1 --out wc --force', ''],
      ['catalog fetch base-runtime acme/parser --json', 'one result for each'],
    ],
    load: () => import('./commands/fetch.ts'),
  },
  {
    name: 'cat',
    operands: ['<ref>', '<path>'],
    summary: 'print one file of a release, before the rest of it is here',
    more: 'What is missing of the file is fetched first. Without --json its bytes are printed as they are.',
    options: [staleOption],
    examples: [
      ['catalog cat word-count main.py', ''],
      ['catalog cat word-count@1.2.0 data/big.csv | head', 'ends the fetch after the first lines'],
    ],
    load: () => import('./commands/cat.ts'),
  },
  {
    name: 'remove',
    operands: ['<ref>'],
    summary: 'forget a release here, and stop announcing it',
    options: [],
    examples: [['catalog remove word-count@1.1.0', '']],
    load: () => import('./commands/remove.ts'),
  },
  {
    name: 'yank',
    operands: ['<ref>'],
    summary: 'say that nobody should take up a version that you published',
    more:
      'No range chooses it any more; its exact version still finds it, with a warning. With --revoke nobody ' +
      'installs it at all, and that is for good.',
    options: [
      { flags: '--reason <text>', summary: 'why, in at most 200 characters' },
      { flags: '--undo', summary: 'take the yank back' },
      { flags: '--revoke', summary: 'for good: not even its exact version installs it' },
    ],
    examples: [
      ['catalog yank word-count@1.2.0 --reason "counts twice"', ''],
      ['catalog yank word-count@1.2.0 --undo', ''],
    ],
    load: () => import('./commands/yank.ts'),
  },
  {
    name: 'deprecate',
    operands: ['<name>'],
    summary: 'say that a package of yours has had its day',
    more: 'Whoever takes it is told; it installs as before.',
    options: [
      { flags: '--message <text>', summary: 'what to do instead, in at most 500 characters' },
      { flags: '--undo', summary: 'take it back' },
    ],
    examples: [['catalog deprecate word-count --message "Use text-stats."', '']],
    load: () => import('./commands/deprecate.ts'),
  },
  {
    name: 'replicas',
    operands: ['<ref>'],
    summary: 'which nodes keep a copy, and how many there should be',
    options: [{ flags: '--factor <count>', summary: 'from now on so many copies (1 to 16)', number: true }],
    examples: [
      ['catalog replicas word-count', ''],
      ['catalog replicas word-count --factor 5', 'two more are placed'],
    ],
    load: () => import('./commands/replicas.ts'),
  },
  {
    name: 'pin',
    operands: ['[ref]'],
    summary: 'keep a release here, whatever else needs the space',
    more: 'What is not here is fetched first. A release that was published here is kept without a pin.',
    options: [
      { flags: '--remove', summary: 'end the pin' },
      { flags: '--list', summary: 'show what is pinned' },
      publisherOption,
      staleOption,
    ],
    examples: [
      ['catalog pin base-runtime@^2', ''],
      ['catalog pin --remove base-runtime@2.1.0', 'it goes when its space is needed'],
      ['catalog pin --list', ''],
    ],
    load: () => import('./commands/pin.ts'),
  },
  {
    name: 'gc',
    operands: [],
    summary: 'free what no release, fetch or execution needs any more',
    more: 'The daemon does this by itself, every hour unless the config says otherwise.',
    options: [{ flags: '--dry-run', summary: 'only say what would go' }],
    examples: [['catalog gc --dry-run', '']],
    load: () => import('./commands/gc.ts'),
  },
  {
    name: 'check',
    operands: ['[ref...]'],
    summary: 'look for damage in what is stored here',
    more: 'Reads and hashes every shard. The exit code is not 0 if damage was found and is not repaired.',
    options: [{ flags: '--repair', summary: 'fetch damaged shards anew from other nodes' }],
    examples: [
      ['catalog check', 'everything that is here'],
      ['catalog check word-count --repair', ''],
    ],
    load: () => import('./commands/check.ts'),
  },
]

const executionCommands: readonly Command[] = [
  {
    name: 'execute',
    operands: ['<ref>', '[args...]'],
    summary: 'execute a package here or on another node',
    more:
      'Waits by default: the payload’s output and exit code become the command’s own. Ctrl-C cancels it. ' +
      'The exit code 125 says that Catalog itself failed.',
    options: [
      {
        flags: '--on <where>',
        summary: 'auto, local or a peer id (default: auto)',
        complete: ['auto', 'local'],
      },
      { flags: '--input <file>', summary: 'its standard input; - is this command’s', complete: 'path' },
      { flags: '--env <K=V>', summary: 'a variable for it (repeatable)', repeat: true },
      { flags: '--timeout <seconds>', summary: 'end it after so long', number: true },
      { flags: '--nodes <count>', summary: 'on how many nodes, for a distributed package', number: true },
      { flags: '--detach', summary: 'print the execution’s id and leave it running' },
      publisherOption,
      staleOption,
    ],
    examples: [
      ['catalog execute word-count --input novel.txt -- --fast', ''],
      ['echo hello | catalog execute word-count --input - --on local', ''],
      ['catalog execute trainer --detach --timeout 600', 'follow it with catalog logs ID --follow'],
    ],
    load: () => import('./commands/execute.ts'),
  },
  {
    name: 'executions',
    operands: ['[id]'],
    summary: 'the executions on record, or one of them',
    options: [],
    examples: [
      ['catalog executions', ''],
      ['catalog executions ID --json', ''],
    ],
    load: () => import('./commands/executions.ts'),
  },
  {
    name: 'logs',
    operands: ['<id>'],
    summary: 'what an execution wrote',
    options: [{ flags: '-f, --follow', summary: 'until it ends' }],
    examples: [['catalog logs ID --follow', '']],
    load: () => import('./commands/logs.ts'),
  },
  {
    name: 'result',
    operands: ['<id>'],
    summary: 'the result of an execution; --out writes its output files',
    options: [
      { flags: '--out <dir>', summary: 'write the output files here', complete: 'path' },
      forceOption,
    ],
    examples: [
      ['catalog result ID', 'state, exit code and output'],
      ['catalog result ID --out results', 'the files it left in its outputs directory'],
    ],
    load: () => import('./commands/result.ts'),
  },
  {
    name: 'cancel',
    operands: ['<id>'],
    summary: 'cancel an execution',
    options: [],
    examples: [['catalog cancel ID', '']],
    load: () => import('./commands/cancel.ts'),
  },
]

const trustCommands: readonly Command[] = [
  {
    name: 'trust',
    operands: [],
    summary: 'who may do what',
    options: [],
    examples: [
      ['catalog trust show', 'the network, this node’s certificates, and what is revoked'],
      ['catalog trust invite --label laboratory-3', 'another node joins with the line that it prints'],
      ["catalog trust grant 'acme/*' --to 12D3KooW…", 'and may publish these names then'],
    ],
    completeOperands: [
      'show',
      'can',
      'invite',
      'grant',
      'revoke',
      'issue',
      'issued',
      'export',
      'rotate',
      'token',
    ],
    verbs: [...showCommands, ...certificateCommands, rotateCommand, tokenCommand],
  },
]

const shellCommands: readonly Command[] = [
  {
    name: 'completion',
    operands: ['<shell>'],
    summary: 'a completion script for bash, zsh or fish',
    options: [],
    examples: [
      ['source <(catalog completion bash)', 'in ~/.bashrc'],
      ['catalog completion fish > ~/.config/fish/completions/catalog.fish', ''],
    ],
    completeOperands: ['bash', 'zsh', 'fish'],
    load: () => import('./commands/completion.ts'),
  },
]

/** In the order in which help shows them, under these headings. */
export const commandGroups: readonly (readonly [heading: string, commands: readonly Command[]])[] = [
  ['The node:', nodeCommands],
  ['Packages:', releaseCommands],
  ['Executions:', executionCommands],
  ['Trust:', trustCommands],
  ['The shell:', shellCommands],
]

export const commands: readonly Command[] = commandGroups.flatMap(([, group]) => group)
