// What a command is made of, and what it is given when it runs.
import type { ConfigFlags } from '../config/config.ts'
import type { ControlClient } from '../control/client.ts'

export interface CommandOption {
  /** As in help: `--out <dir>`, `-f, --follow`. */
  readonly flags: string
  readonly summary: string
  /** May be given several times; its value is a list. */
  readonly repeat?: true
  readonly number?: true
  /** What shells complete its value with: paths, or these words. */
  readonly complete?: 'path' | readonly string[]
}

export interface Command {
  readonly name: string
  /** As in help: `<ref>`, `[args...]`. */
  readonly operands: readonly string[]
  readonly summary: string
  readonly more?: string
  readonly options: readonly CommandOption[]
  readonly examples: readonly (readonly [line: string, meaning: string])[]
  readonly completeOperands?: 'path' | readonly string[]
  /** The carrier ends on Ctrl-C by itself. */
  readonly handlesSignals?: true
  readonly load: () => Promise<{ readonly run: Run }>
}

/** Resolves with the exit code; undefined is 0. */
export type Run = (invocation: Invocation) => Promise<number | undefined>

export interface Invocation {
  readonly operands: readonly string[]
  readonly options: Readonly<Record<string, unknown>>
  readonly json: boolean
  readonly home: string
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  readonly client: ControlClient
  readonly carriers: Carriers
  /** Prints the one JSON object, or the text for people. */
  print(json: unknown, text: () => string): void
}

/** The commands that are more than a call to the daemon: rows above this one carry them. */
export interface Carriers {
  init(options: {
    home: string
    network?: string
    passphraseFile?: string
  }): Promise<{ peerId: string; publisher: string; home: string; unlockKey?: string }>
  /** Runs until a signal ends it; resolves with the exit code. */
  daemon(options: { home: string; flags: ConfigFlags }): Promise<number>
  keys(options: {
    home: string
    passphraseFile?: string
    encrypt?: boolean
    changePassphrase?: string
  }): Promise<{
    keys: readonly { holds: string; name: string; protection: 'none' | 'key-file' | 'passphrase' }[]
    changed: number
  }>
  demo(options: { json: boolean; keep: boolean }): Promise<number>
}
