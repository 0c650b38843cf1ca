// `catalog trust rotate root`: one step of a rotation a call; the row above carries what is done with keys and files.
import { CatalogError } from '../../base/errors.ts'
import type { Carriers, Invocation, Run } from '../command.ts'
import { formatFacts } from '../facts.ts'
import { formatTime } from '../text.ts'

type State = Awaited<ReturnType<Carriers['rootFiles']['sign']>>

const dayMs = 24 * 3600 * 1000
const steps = ['makeKey', 'propose', 'sign', 'publish'] as const

export const run: Run = async invocation => {
  const { options } = invocation
  const given = steps.filter(step => options[step] !== undefined)
  const [step] = given
  if (step === undefined || given.length > 1)
    throw new CatalogError(
      'invalid-request',
      'A rotation goes one step at a time: give one of --make-key, --propose, --sign and --publish.',
    )
  await carryOut[step](invocation, String(options[step]))
  return 0
}

const carryOut: Readonly<
  Record<(typeof steps)[number], (invocation: Invocation, file: string) => Promise<void>>
> = {
  async makeKey(invocation, file) {
    const made = await invocation.carriers.rootFiles.makeKey({ file, ...secretOf(invocation) })
    invocation.print(made, () =>
      formatFacts([
        ['Key', made.key],
        ['Hand out', made.publicKeys],
        ['Keep', file],
      ]),
    )
  },

  async propose(invocation, file) {
    const { client, signal, options, carriers, print } = invocation
    const { document, authorities, network } = await client.rootState({ signal })
    const days = options['days'] as number | undefined
    const threshold = options['threshold'] as number | undefined
    const state = await carriers.rootFiles.propose({
      ...{ file, current: document, authorities, network },
      addAuthorities: listOf(options['addAuthority']),
      addKeys: listOf(options['addKey']),
      remove: listOf(options['remove']),
      revoke: listOf(options['revoke']),
      ...(threshold === undefined ? {} : { threshold }),
      ...(days === undefined ? {} : { lifetimeMs: days * dayMs }),
    })
    print({ ...state, file }, () => `${describe(state)}\n\n${next(state, file)}`)
  },

  async sign(invocation, file) {
    const directory = (invocation.options['rootKeys'] as string | undefined) ?? `${invocation.home}/root-keys`
    const state = await invocation.carriers.rootFiles.sign({ file, directory, ...secretOf(invocation) })
    invocation.print({ ...state, file }, () => `${describe(state)}\n\n${next(state, file)}`)
  },

  async publish({ client, signal, carriers, print }, file) {
    const { document, state } = await carriers.rootFiles.complete({ file })
    const { outcome } = await client.sendNotice({ document }, { signal })
    const told = said[outcome](state.version)
    if (state.authorities.length === 0 || outcome === 'waiting') {
      print({ outcome, version: state.version }, () => told)
      return
    }
    const { roots } = await client.rootState({ signal })
    const memberships = await carriers.rootFiles.memberships({ file, roots })
    print(
      { outcome, version: state.version, memberships },
      () =>
        `${told}\nThe new authority completes its home with \`catalog init --membership FILE\`: ${memberships.join(', ')}`,
    )
  },
}

const said = {
  added: (version: number) =>
    `The network's root is version ${version} from now on; members take it up by themselves.`,
  known: (version: number) => `Version ${version} is the network's root already.`,
  waiting: (version: number) =>
    `Version ${version} is here and waits: this node has not seen the versions before it yet.`,
}

function describe(state: State): string {
  const { version, network, added, removed, threshold, notAfter, carried, revoked, authorities, signed } =
    state
  return formatFacts([
    ['Root', `version ${version} of ${network}`],
    ['New keys', added],
    ['Lost keys', removed],
    ['Threshold', String(threshold)],
    ['Until', formatTime(new Date(notAfter).toISOString())],
    // Whoever signs vouches for these as if he had issued them.
    ['Carries on', carried.filter(one => !authorities.some(({ certificate }) => certificate === one))],
    ['New authority', authorities.map(describeAuthority)],
    ['Ends', revoked],
    ['Signed by', signed],
  ])
}

/** Its holder reads the fingerprint of its keys out: `catalog init --request` showed it. */
function describeAuthority({
  certificate,
  keys,
  label,
  names,
  maxPathLength,
  notAfter,
}: State['authorities'][number]): string {
  const called = label === undefined ? 'without a label' : JSON.stringify(label)
  const granted = names.includes('*') ? 'every name' : names.join(', ')
  const below = maxPathLength > 0 ? ', and make authorities below it' : ''
  const until = formatTime(new Date(notAfter).toISOString())
  return `${called}, keys ${keys}, certificate ${certificate}: may certify nodes and publishers, grant ${granted}${below}, until ${until}`
}

function next({ missing }: State, file: string): string {
  if (missing.old === 0 && missing.new === 0)
    return `All signatures are there: \`catalog trust rotate root --publish ${file}\` on any member.`
  return `Still needed: ${missing.old} ${missing.old === 1 ? 'signature' : 'signatures'} by keys of the root before it and ${missing.new} by its own (one may count for both). Each holder: \`catalog trust rotate root --sign ${file} --root-keys DIR\`.`
}

const listOf = (value: unknown): string[] => (value === undefined ? [] : (value as string[]))

const secretOf = ({ home, options }: Invocation): { home: string; passphraseFile?: string } => {
  const passphraseFile = options['passphraseFile'] as string | undefined
  return { home, ...(passphraseFile === undefined ? {} : { passphraseFile }) }
}
