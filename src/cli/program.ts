// From arguments to a command and its exit code: parsing, help, errors, Ctrl-C. The commands themselves are data
// in commands.ts; commander is used here alone.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command as Commander, CommanderError, InvalidArgumentError } from 'commander'
import { CatalogError, errorTable, exitCodes, toCatalogError } from '../base/errors.ts'
import { homeOf, homePaths } from '../config/home.ts'
import { ControlClient } from '../control/client.ts'
import type { Carriers, Command, CommandOption, Invocation } from './command.ts'
import { commandGroups, globalOptions } from './commands.ts'
import { formatError } from './error-text.ts'

/** Runs one command; its exit code is in `process.exitCode` at the end. */
export async function runCommandLine(args: readonly string[], carriers: Carriers): Promise<void> {
  process.stdout.on('error', leaveQuietly)
  process.stderr.on('error', leaveQuietly)
  const beforePayload = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
  const failure = {
    json: beforePayload.includes('--json'),
    execute: false,
    operands: [] as readonly string[],
  }
  let code: number | undefined
  const program = buildProgram(async (command, operands, options) => {
    failure.execute = command.name === 'execute'
    failure.operands = operands
    code = await runCommand(command, operands, options, carriers)
  })
  try {
    failure.execute = commandOf(args) === 'execute'
    await program.parseAsync(args, { from: 'user' })
    process.exitCode = code ?? 0
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return
    // Of a command without its verb, the help has been printed.
    if (thrown instanceof CommanderError && thrown.code === 'commander.help')
      return commandOf(args) === undefined ? program.outputHelp() : undefined
    const error = thrown instanceof CommanderError ? usageError(thrown) : toCatalogError(thrown)
    const text = failure.json
      ? JSON.stringify({ error: error.toJSON() })
      : await formatError(error, failure.operands)
    process.stderr.write(`${text}\n`)
    process.exitCode = exitCodeOf(error, failure.execute)
  }
}

const optionsWithValues = globalOptions
  .filter(({ flags }) => flags.endsWith('>'))
  .map(({ flags }) => flags.split(' ')[0])

/** The command's name, before anything is parsed: behind the options, some of which take a value. */
function commandOf(args: readonly string[]): string | undefined {
  return args.find((arg, at) => !arg.startsWith('-') && !optionsWithValues.includes(args[at - 1]))
}

/** A payload's exit code may be any: `execute` keeps one for itself. */
function exitCodeOf(error: CatalogError, execute: boolean): number {
  return execute && error.code !== 'cancelled' ? 125 : errorTable[error.code].exit
}

/** `catalog list | head` is no failure. */
function leaveQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit()
  throw error
}

async function runCommand(
  command: Command,
  operands: readonly string[],
  options: Record<string, unknown>,
  carriers: Carriers,
): Promise<number | undefined> {
  const home = homeOf({ home: options['home'] as string | undefined }, process.env)
  const json = options['json'] === true
  const interrupt = new AbortController()
  const invocation: Invocation = {
    operands,
    options,
    json,
    home,
    signal: interrupt.signal,
    ...connection(home, options),
    carriers,
    print: (value, text) => void process.stdout.write(`${json ? JSON.stringify(value) : text()}\n`),
  }
  const { run } = await (command.load as NonNullable<Command['load']>)()
  if (command.handlesSignals === true) return run(invocation)
  const onSignal = () => {
    // The second time, whoever presses means it.
    if (interrupt.signal.aborted) process.exit(130)
    interrupt.abort(new CatalogError('cancelled', 'Cancelled.'))
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  try {
    return await run(invocation)
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}

/** The daemon that is meant: the home's own, or the one of the socket that was named. */
function connection(home: string, options: Record<string, unknown>): Pick<Invocation, 'client' | 'streams'> {
  const named = (option: string, variable: string) =>
    (options[option] as string | undefined) ?? (process.env[variable] || undefined)
  // A home that is named is meant, whatever the environment says.
  const socket =
    options['home'] === undefined
      ? named('socket', 'CATALOG_SOCKET')
      : (options['socket'] as string | undefined)
  if (socket === '')
    throw new CatalogError('invalid-request', 'The --socket option is empty. Name a socket, or leave it out.')
  if (socket === undefined) {
    if (options['tokenFile'] !== undefined)
      throw new CatalogError(
        'invalid-request',
        'A token is for a shared socket: name it with --socket, or leave --token-file out.',
      )
    return { client: new ControlClient({ socketPath: homePaths(home).socket }), streams: false }
  }
  const file = named('tokenFile', 'CATALOG_TOKEN_FILE')
  const token =
    file === undefined ? undefined : async () => (await import('../config/token-file.ts')).readTokenFile(file)
  return { client: new ControlClient({ socketPath: resolve(socket), token }), streams: true }
}

type Start = (
  command: Command,
  operands: readonly string[],
  options: Record<string, unknown>,
) => Promise<void>

const quiet = { writeErr: () => undefined, outputError: () => undefined }

function buildProgram(start: Start): Commander {
  const program = new Commander('catalog')
  program
    .description('Publishes, finds, verifies and executes signed packages, peer to peer.')
    .usage('<command> [options]')
    .version(version(), '--version', 'print the version')
    // What stands behind a command's name is the command's own: `--` among it.
    .enablePositionalOptions()
    .configureOutput(quiet)
    .exitOverride()
    .helpCommand(false)
    .addHelpText(
      'after',
      `\nExit codes:\n${exitCodeTable()}\n\nMore: catalog COMMAND --help, catalog help exit-codes`,
    )
  addOptions(program, globalOptions)
  for (const [heading, group] of commandGroups)
    for (const command of group) addCommand(program, command, start).helpGroup(heading)
  addHelp(program)
  return program
}

/** From the package.json above the sources, or above dist/. */
function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: unknown }).version)
}

function addCommand(program: Commander, command: Command, start: Start): Commander {
  const built = program.command(command.name).summary(command.summary).description(describe(command))
  built.exitOverride()
  for (const operand of command.operands) built.argument(operand)
  addOptions(built, command.options)
  addOptions(built, globalOptions)
  built.addHelpText('after', `\nExamples:\n${examples(command)}`)
  if (command.verbs !== undefined) {
    // Without a verb, its help is what is asked for.
    built.configureOutput({ writeErr: text => process.stdout.write(text), outputError: () => undefined })
    for (const verb of command.verbs) addCommand(built, verb, start)
    return built
  }
  built.configureOutput(quiet)
  return built.action(async () => {
    await start(command, built.args, optionsOf(built))
  })
}

/** A command's own options before those of the commands that it is a verb of. */
const optionsOf = (command: Commander): Record<string, unknown> => ({
  ...(command.parent === null ? {} : optionsOf(command.parent)),
  ...command.opts(),
})

const describe = ({ summary, more }: Command): string => {
  const sentence = `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
  return more === undefined ? sentence : `${sentence} ${more}`
}

function examples({ examples }: Command): string {
  return examples
    .map(([line, meaning]) => (meaning === '' ? `  ${line}` : `  ${line}\n      ${meaning}`))
    .join('\n')
}

function addOptions(command: Commander, options: readonly CommandOption[]): void {
  for (const { flags, summary, repeat, number } of options) {
    if (repeat === true) command.option(flags, summary, (value, list: string[] = []) => [...list, value])
    else if (number === true) command.option(flags, summary, parseNumber)
    else command.option(flags, summary)
  }
}

function parseNumber(text: string): number {
  if (!/^\d{1,9}(\.\d{1,3})?$/.test(text) || Number(text) === 0)
    throw new InvalidArgumentError('It must be a number above 0.')
  return Number(text)
}

function addHelp(program: Commander): void {
  const help = program
    .command('help')
    .helpGroup('The shell:')
    .summary('help on a command, or on exit-codes')
    .argument('[topic]')
    .exitOverride()
    .action((topic: string | undefined) => {
      const command = program.commands.find(one => one.name() === topic)
      if (topic === 'exit-codes') process.stdout.write(`${exitCodeTable()}\n`)
      else if (topic === undefined) program.outputHelp()
      else if (command !== undefined) command.outputHelp()
      else
        throw new CatalogError(
          'unknown-command',
          `There is no help on ${JSON.stringify(topic)}. \`catalog help\` lists the commands.`,
        )
    })
  addOptions(help, globalOptions)
}

/** Each code, what it means, and the errors that end with it. */
function exitCodeTable(): string {
  return Object.entries(exitCodes)
    .map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`)
    .join('\n')
}

function usageError(error: CommanderError): CatalogError {
  const message = error.message.replace(/^error: /, '')
  const sentence = `${message.charAt(0).toUpperCase()}${message.slice(1)}${/[.)?]$/.test(message) ? '' : '.'}`
  const unknown = error.code === 'commander.unknownCommand'
  return new CatalogError(
    unknown ? 'unknown-command' : 'invalid-request',
    `${sentence.replace('\n', ' ')} \`catalog --help\` and \`catalog COMMAND --help\` say what is right.`,
  )
}
