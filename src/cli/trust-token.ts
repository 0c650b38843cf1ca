// `catalog trust token …`: the tokens that admit other users of this machine to the shared control socket.
import type { Command } from './command.ts'

export const tokenCommand: Command = {
  name: 'token',
  operands: [],
  summary: 'tokens for other users of this machine',
  options: [],
  examples: [],
  verbs: [
    {
      name: 'create',
      operands: [],
      summary: 'make a token, and print it once',
      more:
        'Its user writes it into a file (chmod 600) and gives --socket and --token-file to every command. It works on ' +
        'the shared socket that control.shared in the config names.',
      options: [
        { flags: '--label <name>', summary: 'whom or what it is for' },
        {
          flags: '--can <list>',
          summary: 'fetch, publish, execute, replicate, separated by commas (default: fetch)',
        },
        {
          flags: '--names <list>',
          summary: 'what it may publish, execute and keep: names, scope/*, prefix-* (default: *)',
        },
        { flags: '--expires <time>', summary: 'for example 12h or 90d (default: 30d)' },
      ],
      examples: [
        ['catalog trust token create --label ann --can fetch', ''],
        [
          "catalog trust token create --label ci --can fetch,publish --names 'acme/*' --expires 90d",
          'may publish the packages of one scope',
        ],
      ],
      load: async () => ({ run: (await import('./commands/trust-token.ts')).create }),
    },
    {
      name: 'list',
      operands: [],
      summary: 'the tokens there are, without their texts',
      options: [],
      examples: [['catalog trust token list', '']],
      load: async () => ({ run: (await import('./commands/trust-token.ts')).list }),
    },
    {
      name: 'revoke',
      operands: ['<id>'],
      summary: 'end a token, and what goes on with it',
      options: [],
      examples: [['catalog trust token revoke 0f3a9b1c2d4e5f60', '']],
      load: async () => ({ run: (await import('./commands/trust-token.ts')).revoke }),
    },
  ],
}
