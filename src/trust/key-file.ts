// One key on disk, encrypted, or plain where its owner put it there so: read, made once, put under another secret.
// What the key's bytes mean belongs to its reader; the format of encryption is key-encryption.ts.
import { equalBytes } from '../base/cbor.ts'
import { CatalogError, isCatalogError } from '../base/errors.ts'
import {
  decryptKey,
  encryptKey,
  isEncryptedKey,
  type KeyHeader,
  type KeySecret,
  kindOf,
  maxKeyFileBytes,
  readKeyHeader,
  type SecretKind,
} from './key-encryption.ts'
import { createPrivateFile, readPrivateFile, replacePrivateFile } from './private-file.ts'

/** Finds the secret that a file asks for. */
export interface KeySecrets {
  /** @throws CatalogError `passphrase-needed`; `what` begins the sentence: "The node key at PATH". */
  find(kind: SecretKind, what: string): Promise<KeySecret>
}

export type Protection = SecretKind | 'none'

export interface StoredKey {
  readonly bytes: Uint8Array
  readonly protection: Protection
}

const subjects: Readonly<Record<KeyHeader['holds'], string>> = {
  node: 'The node key',
  'node-falcon': "The node's Falcon key",
  publisher: 'The file of the publisher keys',
  authority: 'The file of the authority keys',
  root: 'The file of a root key of the network',
}

export class KeyFile {
  readonly path: string
  readonly holds: KeyHeader['holds']
  readonly #secrets: KeySecrets

  constructor(
    deps: { readonly secrets: KeySecrets },
    options: { readonly path: string; readonly holds: KeyHeader['holds'] },
  ) {
    this.#secrets = deps.secrets
    this.path = options.path
    this.holds = options.holds
  }

  /** "The node key at PATH" */
  get #what(): string {
    return `${this.#subject} at ${this.path}`
  }

  get #subject(): string {
    return subjects[this.holds]
  }

  /**
   * The key; undefined where there is no file.
   * @throws CatalogError `passphrase-needed`, `wrong-passphrase`, `invalid-config`, `forbidden`, `home-not-owned`, `store-too-new`
   */
  async read(): Promise<StoredKey | undefined> {
    const file = await this.#readFile()
    if (file === undefined) return undefined
    const header = this.#headerOf(file)
    if (header === undefined) return { bytes: file, protection: 'none' }
    const kind = kindOf(header)
    const secret = await this.#secrets.find(kind, this.#what)
    const bytes = await decryptKey(file, secret)
    if (bytes === undefined)
      throw new CatalogError(
        'wrong-passphrase',
        `${this.#what} cannot be opened: ${secret.source} is not the one it was encrypted with, or the file is damaged. Give the right one; if \`catalog keys\` was interrupted, run the same again.`,
        { path: this.path, source: secret.source },
      )
    return { bytes, protection: kind }
  }

  /** How the file is protected, and the name of its key where it is encrypted: no secret is needed. */
  async inspect(): Promise<{ protection: Protection; name?: string } | undefined> {
    const file = await this.#readFile()
    if (file === undefined) return undefined
    const header = this.#headerOf(file)
    return header === undefined ? { protection: 'none' } : { protection: kindOf(header), name: header.name }
  }

  /** Whether this secret opens the file as it is. */
  async opensWith(secret: KeySecret): Promise<boolean> {
    const file = await this.#readFile()
    if (file === undefined || this.#headerOf(file) === undefined) return false
    const bytes = await decryptKey(file, secret)
    bytes?.fill(0)
    return bytes !== undefined
  }

  /** Makes the file, plain without a secret. False, with nothing changed, where one is there. */
  async create(bytes: Uint8Array, name: string, secret: KeySecret | undefined): Promise<boolean> {
    return createPrivateFile(this.path, secret === undefined ? bytes : await this.#seal(bytes, name, secret))
  }

  /** Puts the key under another secret: the file is the old one or the new one, whatever happens. */
  async replace(bytes: Uint8Array, name: string, secret: KeySecret): Promise<void> {
    await replacePrivateFile(this.path, await this.#seal(bytes, name, secret))
  }

  async #seal(bytes: Uint8Array, name: string, secret: KeySecret): Promise<Uint8Array> {
    const file = await encryptKey(bytes, { holds: this.holds, name }, secret)
    // The only copy of a key is about to be replaced: by nothing that was not seen to open.
    const opened = await decryptKey(file, secret)
    if (opened === undefined || !equalBytes(opened, bytes))
      throw new CatalogError('internal', `${this.#what} was not written: it could not be decrypted again.`)
    opened.fill(0)
    return file
  }

  #readFile(): Promise<Uint8Array | undefined> {
    return readPrivateFile(this.path, {
      what: this.#subject,
      maxBytes: maxKeyFileBytes,
      // A node key or a root's may be kept on another medium; a publisher's never was.
      followLinks: this.holds === 'node' || this.holds === 'root',
    })
  }

  /** Undefined for a plain file. */
  #headerOf(file: Uint8Array): KeyHeader | undefined {
    if (!isEncryptedKey(file)) return undefined
    try {
      const header = readKeyHeader(file)
      if (header.holds === this.holds) return header
      throw new CatalogError('bad-record', `it holds a ${header.holds} key`)
    } catch (error) {
      if (isCatalogError(error, 'store-too-new'))
        throw new CatalogError('store-too-new', `${this.#what}: ${error.message}`, { path: this.path })
      if (!isCatalogError(error, 'bad-record')) throw error
      throw new CatalogError(
        'invalid-config',
        `${this.#what} cannot be used: ${error.message.replace(/\.$/, '')}. Restore the file from a backup.`,
        { path: this.path },
      )
    }
  }
}
