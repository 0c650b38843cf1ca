// `catalog init`: the home of a node, as the founder of a network or a member of one; carried by the row above.
import { CatalogError } from '../../base/errors.ts'
import type { HomeChoices, Invocation, MadeHome, Run } from '../command.ts'
import { formatFacts } from '../facts.ts'

/** Each is a way of its own to become a member. */
const ways = ['join', 'request', 'membership'] as const

export const run: Run = async invocation => {
  const { options, print } = invocation
  const given = ways.filter(way => options[way] !== undefined)
  if (given.length > 1)
    throw new CatalogError('invalid-request', `Take one of ${given.map(way => `--${way}`).join(' and ')}.`)
  const founding = ['network', 'rootKeys', 'rootThreshold'].find(name => options[name] !== undefined)
  if (given[0] !== undefined && founding !== undefined)
    throw new CatalogError(
      'invalid-request',
      `--${given[0]} takes this node into a network that exists: what founds a new one (--network, --root-keys, --root-threshold) has no place beside it.`,
    )
  if (given[0] === 'request') return writeRequest(invocation)
  if (options['authority'] === true)
    throw new CatalogError(
      'invalid-request',
      '--authority needs --request: an authority of the network must certify its keys. Who founds a network is one.',
    )
  const made = await make(invocation, given[0])
  print(made, () => describe(made, given[0] === undefined, choices(invocation)))
  return 0
}

function make(invocation: Invocation, way: 'join' | 'membership' | undefined): Promise<MadeHome> {
  const { carriers, options, signal } = invocation
  const home = choices(invocation)
  const { join, membership, root, network, rootKeys, rootThreshold } = options as Record<
    string,
    string | undefined
  >
  if (way === 'join') return carriers.join({ ...home, ...label(options), invite: join as string, signal })
  if (way === 'membership')
    return carriers.complete({
      ...home,
      membership: membership as string,
      ...(root === undefined ? {} : { root }),
    })
  return carriers.init({
    ...home,
    ...(network === undefined ? {} : { network }),
    ...(rootKeys === undefined ? {} : { rootKeys: Number(rootKeys) }),
    ...(rootThreshold === undefined ? {} : { rootThreshold: Number(rootThreshold) }),
  })
}

async function writeRequest(invocation: Invocation): Promise<number> {
  const { carriers, options, print } = invocation
  const request = options['request'] as string
  const authority = options['authority'] === true
  const made = await carriers.request({
    ...choices(invocation),
    ...label(options),
    ...{ request, authority },
  })
  print(made, () =>
    [
      formatFacts([
        ['Home', made.home],
        ['Peer id', made.peerId],
        ['Authority keys', made.authority],
        ['Request', made.request],
      ]),
      '\nTake the request to a node that is an authority; it is not secret. There:',
      `  catalog trust issue REQUEST --out MEMBERSHIP${authority ? ' --role authority --role store' : ''}`,
      ...(authority
        ? [
            'Or, where no authority is left, to who proposes the next root: catalog trust rotate root --propose FILE --add-authority REQUEST',
          ]
        : []),
      `Then here: catalog init --home ${made.home} --membership MEMBERSHIP`,
    ].join('\n'),
  )
  return 0
}

function choices({ home, options }: Invocation): HomeChoices {
  const { passphraseFile, certificate } = options as Record<string, string | undefined>
  return {
    home,
    ...(passphraseFile === undefined ? {} : { passphraseFile }),
    ...(certificate === undefined ? {} : { certificate }),
  }
}

const label = (options: Invocation['options']): { label?: string } =>
  options['label'] === undefined ? {} : { label: options['label'] as string }

function describe(made: MadeHome, founded: boolean, { passphraseFile }: HomeChoices): string {
  const unlock = passphraseFile === undefined ? '' : ` --passphrase-file ${passphraseFile}`
  const facts = formatFacts([
    ['Home', made.home],
    ['Network', `${made.network}${founded ? ' (new)' : ''}`],
    ['Root', made.root],
    ['Peer id', made.peerId],
    ['Publisher', made.publisher],
    ['Authority', made.authority],
    ['Unlock key', made.unlockKey],
    ['Root keys', made.rootKeys],
  ])
  const next = founded
    ? [
        'The root keys decide over the network: keep them somewhere else than here.',
        `Start the node with: catalog daemon --home ${made.home}${unlock}`,
        'Another node joins with the line that `catalog trust invite` prints.',
      ]
    : [
        made.authority === undefined
          ? 'This node is a member. Its publisher holds no package names yet: an authority grants them.'
          : 'This node is a member, and an authority: it grants names, to its own publisher as well.',
        `Start the node with: catalog daemon --home ${made.home}${unlock}`,
      ]
  return `${facts}\n\n${next.join('\n')}`
}
