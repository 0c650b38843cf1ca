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
  /** What runs it; or its verbs, commands of their own behind its name. */
  readonly load?: () => Promise<{ readonly run: Run }>
  readonly verbs?: readonly Command[]
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
  /** --socket: a daemon that reads and writes no files of this user's. Content passes as a stream. */
  readonly streams: boolean
  readonly carriers: Carriers
  /** Prints the one JSON object, or the text for people. */
  print(json: unknown, text: () => string): void
}

/** How far the next root of a network is; keys and certificates are fingerprints. */
export interface RootProposal {
  readonly version: number
  readonly network: string
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly threshold: number
  readonly notAfter: number
  readonly carried: readonly string[]
  readonly revoked: readonly string[]
  /** Authorities that it makes. */
  readonly authorities: readonly {
    readonly certificate: string
    readonly keys: string
    readonly label?: string
    readonly names: readonly string[]
    readonly maxPathLength: number
    readonly notAfter: number
  }[]
  readonly signed: readonly string[]
  readonly missing: { readonly old: number; readonly new: number }
}

export interface HomeChoices {
  home: string
  passphraseFile?: string
  /** PEM file of an X.509 certificate and its Ed25519 key. */
  certificate?: string
}

export interface MadeHome {
  readonly home: string
  readonly network: string
  readonly root: string
  readonly peerId: string
  readonly publisher: string
  /** Fingerprint of its authority certificate, where it certifies others. */
  readonly authority?: string
  readonly unlockKey?: string
  readonly rootKeys?: string
}

/** The commands that are more than a call to the daemon: rows above this one carry them. */
export interface Carriers {
  /** Founds a network. */
  init(
    options: HomeChoices & { network?: string; rootKeys?: number; rootThreshold?: number },
  ): Promise<MadeHome>
  join(options: HomeChoices & { invite: string; label?: string; signal: AbortSignal }): Promise<MadeHome>
  /** Writes the file that an authority answers. */
  request(
    options: HomeChoices & { request: string; label?: string; authority?: boolean },
  ): Promise<{ home: string; peerId: string; publisher: string; authority?: string; request: string }>
  /** Takes that answer. */
  complete(options: HomeChoices & { membership: string; root?: string }): Promise<MadeHome>
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
  rootFiles: {
    makeKey(options: {
      file: string
      home: string
      passphraseFile?: string
    }): Promise<{ key: string; publicKeys: string }>
    propose(options: {
      file: string
      current: string
      authorities: readonly string[]
      network: string
      /** Files of requests. */
      addAuthorities: readonly string[]
      addKeys: readonly string[]
      remove: readonly string[]
      threshold?: number
      revoke: readonly string[]
      lifetimeMs?: number
    }): Promise<RootProposal>
    sign(options: {
      file: string
      directory: string
      home: string
      passphraseFile?: string
    }): Promise<RootProposal>
    complete(options: { file: string }): Promise<{ document: string; state: RootProposal }>
    /** Files for the authorities that a published root makes. */
    memberships(options: { file: string; roots: readonly string[] }): Promise<string[]>
  }
  demo(options: { json: boolean; keep: boolean }): Promise<number>
}
