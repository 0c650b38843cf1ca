// `catalog completion`: scripts for shells, made of the commands' own data.
import { CatalogError } from '../../base/errors.ts'
import type { Command, CommandOption, Run } from '../command.ts'
import { commands, globalOptions } from '../commands.ts'

export const run: Run = async ({ operands, print }) => {
  const [shell = ''] = operands
  const script = Object.hasOwn(scripts, shell) ? scripts[shell as keyof typeof scripts]() : undefined
  if (script === undefined)
    throw new CatalogError(
      'invalid-request',
      `There is no completion for ${JSON.stringify(shell)}. Name bash, zsh or fish.`,
    )
  print({ shell, script }, () => script.trimEnd())
  return 0
}

const names = commands.map(command => command.name)
const topics = [...names, 'exit-codes']

/** `-f, --follow` gives both; what takes a value ends in `>`. */
const flagsOf = ({ flags }: CommandOption): string[] =>
  flags.split(/[ ,]+/).filter(word => word.startsWith('-'))
const takesValue = ({ flags }: CommandOption): boolean => flags.endsWith('>')
const optionsOf = (command: Command): CommandOption[] => [...command.options, ...globalOptions]
/** The global options that take a value, which may stand before the command. */
const valued = globalOptions.filter(takesValue).flatMap(flagsOf)
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

function bash(): string {
  const cases = commands.map(command => {
    const values = optionsOf(command)
      .filter(takesValue)
      .map(option => `      ${flagsOf(option).join('|')}) ${bashWords(option.complete)}; return ;;`)
    return `  ${command.name})
    case "$previous" in
${values.join('\n')}
    esac
    case "$word" in
      -*) COMPREPLY=($(compgen -W ${quote(`${optionsOf(command).flatMap(flagsOf).join(' ')} --help`)} -- "$word")) ;;
      *) ${bashWords(command.completeOperands)} ;;
    esac ;;`
  })
  return `# Completion of catalog for bash: source <(catalog completion bash)
_catalog() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      --) return ;;
      ${valued.join('|')}) ((i++)) ;;
      -*) ;;
      *) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case "$command" in
  '')
    case "$previous" in ${valued.join('|')}) compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;; esac
    COMPREPLY=($(compgen -W ${quote(`${names.join(' ')} help ${globalOptions.flatMap(flagsOf).join(' ')} --help`)} -- "$word")) ;;
  help) COMPREPLY=($(compgen -W ${quote(topics.join(' '))} -- "$word")) ;;
${cases.join('\n')}
  esac
}
complete -F _catalog catalog
`
}

function bashWords(complete: CommandOption['complete']): string {
  if (complete === undefined) return ':'
  if (complete === 'path') return 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$word"))'
  return `COMPREPLY=($(compgen -W ${quote(complete.join(' '))} -- "$word"))`
}

function zsh(): string {
  const cases = commands.map(command => {
    const options = optionsOf(command).map(zshOption)
    const operands =
      command.operands.length === 0 ? '' : ` ${quote(`*:operand:${zshValue(command.completeOperands)}`)}`
    return `    ${command.name}) _arguments ${options.join(' ')} '--help[show help]'${operands} ;;`
  })
  const described = commands.map(({ name, summary }) => `    ${quote(`${name}:${zshText(summary)}`)}`)
  return `#compdef catalog
# Completion of catalog for zsh: catalog completion zsh > "\${fpath[1]}/_catalog"
_catalog() {
  local -a commands
  commands=(
${described.join('\n')}
    'help:help on a command, or on exit-codes'
  )
  local context state line
  _arguments -C ${globalOptions.map(zshOption).join(' ')} '--help[show help]' '1:command:->command' '*::argument:->argument'
  case $state in
  command) _describe command commands ;;
  argument)
    case $words[1] in
    help) _values topic ${topics.join(' ')} ;;
${cases.join('\n')}
    esac ;;
  esac
}
if [ "$funcstack[1]" = _catalog ]; then _catalog "$@"; else compdef _catalog catalog; fi
`
}

function zshOption(option: CommandOption): string {
  const repeat = option.repeat === true ? '*' : ''
  const value = takesValue(option) ? `:value:${zshValue(option.complete)}` : ''
  return flagsOf(option)
    .map(flag => quote(`${repeat}${flag}[${zshText(option.summary)}]${value}`))
    .join(' ')
}

const zshText = (text: string): string => text.replace(/[[\]:\\]/g, '\\$&')

function zshValue(complete: CommandOption['complete']): string {
  if (complete === undefined) return ' '
  return complete === 'path' ? '_files' : `(${complete.join(' ')})`
}

function fish(): string {
  const lines = commands.flatMap(command => {
    const seen = `-n ${quote(`__fish_seen_subcommand_from ${command.name}`)}`
    const operands = command.completeOperands
    return [
      `complete -c catalog -n __fish_use_subcommand -f -a ${command.name} -d ${quote(command.summary)}`,
      ...optionsOf(command).map(option => `complete -c catalog ${seen} ${fishOption(option)}`),
      ...(operands === 'path' ? [`complete -c catalog ${seen} -F`] : []),
      ...(Array.isArray(operands) ? [`complete -c catalog ${seen} -f -a ${quote(operands.join(' '))}`] : []),
    ]
  })
  return `# Completion of catalog for fish: catalog completion fish > ~/.config/fish/completions/catalog.fish
complete -c catalog -f
${lines.join('\n')}
complete -c catalog -n __fish_use_subcommand -f -a help -d 'help on a command, or on exit-codes'
complete -c catalog -n ${quote('__fish_seen_subcommand_from help')} -f -a ${quote(topics.join(' '))}
`
}

function fishOption(option: CommandOption): string {
  const flags = flagsOf(option).map(flag =>
    flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
  )
  const { complete } = option
  const value =
    complete === 'path' ? ' -r -F' : Array.isArray(complete) ? ` -x -a ${quote(complete.join(' '))}` : ' -x'
  return `${flags.join(' ')}${takesValue(option) ? value : ''} -d ${quote(option.summary)}`
}

const scripts = { bash, zsh, fish }
