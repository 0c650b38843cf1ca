// `catalog trust rotate`: other keys for this node's publisher; and the next version of the network's root, from
// proposal to publication.
import type { Command } from './command.ts'

export const rotateCommand: Command = {
  name: 'rotate',
  operands: [],
  summary: 'replace keys',
  options: [],
  examples: [],
  verbs: [
    {
      name: 'publisher',
      operands: [],
      summary: 'give this node’s publisher new keys; its id, names and packages stay',
      more:
        'The daemon goes on meanwhile. The authority that certified the old keys must be connected: it certifies the new ' +
        'ones, and every head is signed anew. Others who sign for this publisher get new certificates by themselves; ' +
        'publishers that had delegated to this node must do so again.',
      options: [
        {
          flags: '--revoke-old',
          summary: 'end the old certificates, and yank what others signed with the old keys',
        },
        { flags: '--reason <text>', summary: 'with --revoke-old: why, for people' },
      ],
      examples: [
        ['catalog trust rotate publisher', 'for example once a year'],
        ['catalog trust rotate publisher --revoke-old --reason "laptop stolen"', 'others may have the keys'],
      ],
      load: () => import('./commands/trust-rotate-publisher.ts'),
    },
    {
      name: 'root',
      operands: [],
      summary: "make the next version of the network's root, one step a call",
      more:
        'Propose it on a member, carry the file to the holders of the old and the new keys, who sign it on machines ' +
        'without a network, and publish it on any member. It takes the threshold of both; one lost key is no obstacle. ' +
        'Where the key of the only authority is lost or stolen, the root makes another: `catalog init --request FILE ' +
        '--authority` on its machine, --propose with --add-authority FILE and --revoke OLD, and its home is completed ' +
        'by the file that --publish writes. What the old one certified ends with it; nodes join again by invites of ' +
        'the new one.',
      options: [
        {
          flags: '--make-key <file>',
          summary: 'make a key for the next root: FILE, and FILE.pub to hand out',
          complete: 'path',
        },
        { flags: '--propose <file>', summary: 'write a proposal for the next root', complete: 'path' },
        {
          flags: '--add-key <file>',
          summary: 'with --propose: a key it is to have (FILE.pub; repeatable)',
          repeat: true,
          complete: 'path',
        },
        {
          flags: '--remove <fingerprint>',
          summary: 'with --propose: a key it is to lose (repeatable)',
          repeat: true,
        },
        {
          flags: '--threshold <count>',
          summary: 'with --propose: how many of its keys decide (default: as before)',
          number: true,
        },
        {
          flags: '--revoke <fingerprint>',
          summary: 'with --propose: an authority that it ends (repeatable)',
          repeat: true,
        },
        {
          flags: '--add-authority <request>',
          summary: 'with --propose: a node that it makes an authority over every name (repeatable)',
          repeat: true,
          complete: 'path',
        },
        {
          flags: '--days <count>',
          summary: 'with --propose: how long it lasts (default: as long as the one before)',
          number: true,
        },
        { flags: '--sign <file>', summary: 'sign a proposal with the keys of --root-keys', complete: 'path' },
        {
          flags: '--root-keys <dir>',
          summary: 'with --sign: where the keys of the root lie (default: HOME/root-keys)',
          complete: 'path',
        },
        { flags: '--publish <file>', summary: 'give the finished root to the network', complete: 'path' },
        {
          flags: '--passphrase-file <file>',
          summary: 'the file with the passphrase of the keys',
          complete: 'path',
        },
      ],
      examples: [
        [
          'catalog trust rotate root --make-key /media/usb/root-4.key',
          'a new key, on the machine of its holder',
        ],
        [
          'catalog trust rotate root --propose next.root --add-key root-4.key.pub --remove bdyq…',
          'on any member',
        ],
        [
          'catalog trust rotate root --propose next.root --add-authority b.request --revoke bkx2…',
          'another authority in the place of one whose key was stolen',
        ],
        [
          'catalog trust rotate root --sign next.root --root-keys /media/usb',
          'each holder, one after the other',
        ],
        ['catalog trust rotate root --publish next.root', 'on any member'],
      ],
      load: () => import('./commands/trust-rotate.ts'),
    },
  ],
}
