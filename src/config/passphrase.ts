// Where the passphrase of a home's keys comes from. It is read from a file, never asked for, and never given in an
// argument or a variable, which other processes can see. What it opens belongs to trust/.
import { join, resolve } from 'node:path'
import { CatalogError } from '../base/errors.ts'
import { KeySecret } from '../trust/key-encryption.ts'
import { type PrivateFileRules, readPrivateFile } from '../trust/private-file.ts'

export interface PassphraseSources {
  /** `--passphrase-file` */
  readonly flag?: string | undefined
  /** CATALOG_PASSPHRASE_FILE, and CREDENTIALS_DIRECTORY as systemd sets it for LoadCredential (systemd.exec(5)). */
  readonly env: Readonly<Record<string, string | undefined>>
  /** `keys.passphraseFile`; where it is relative, it starts at `home`. */
  readonly configured?: string
  readonly home: string
}

const maxBytes = 1024

const rules: PrivateFileRules = {
  what: 'The passphrase file',
  maxBytes,
  // Whoever names it means what it leads to.
  followLinks: true,
  // The system hands a service its secrets so; it could read ours anyway.
  rootMayOwn: true,
  remedy: 'Name a regular file that holds the passphrase alone.',
}

/**
 * The passphrase from the first source that names one: flag, variable, config, credential; undefined without any.
 * @throws CatalogError `no-such-path` (a file was named that is not there), `forbidden` (others may read it),
 *   `home-not-owned`, `invalid-config` (empty, too large, no regular file), `invalid-request` (an empty name)
 */
export async function findPassphrase(sources: PassphraseSources): Promise<KeySecret | undefined> {
  const { flag, env, configured, home } = sources
  if (flag !== undefined) return readPassphrase(flag, '--passphrase-file')
  const variable = env['CATALOG_PASSPHRASE_FILE']
  if (variable) return readNamed(resolve(variable), 'CATALOG_PASSPHRASE_FILE')
  if (configured) return readNamed(resolve(home, configured), 'keys.passphraseFile in the config')
  const credentials = env['CREDENTIALS_DIRECTORY']
  if (!credentials) return undefined
  const path = join(credentials, 'catalog-passphrase')
  return read(path, 'the credential catalog-passphrase', { ...rules, groupMayRead: true })
}

/** The passphrase in the file that an option names. @throws as `findPassphrase` */
export async function readPassphrase(path: string, option: string): Promise<KeySecret> {
  // An unset variable in a script (`--passphrase-file "$FILE"`) must not mean a home without one.
  if (path === '')
    throw new CatalogError('invalid-request', `The ${option} option is empty. Name a file, or leave it out.`)
  return readNamed(resolve(path), option)
}

async function readNamed(path: string, origin: string): Promise<KeySecret> {
  const secret = await read(path, origin, rules)
  if (secret !== undefined) return secret
  throw new CatalogError(
    'no-such-path',
    `There is no passphrase file at ${path}, which ${origin} names. Make it (chmod 600), or name another.`,
    { path },
  )
}

async function read(path: string, origin: string, by: PrivateFileRules): Promise<KeySecret | undefined> {
  const file = await readPrivateFile(path, by)
  if (file === undefined) return undefined
  const bytes = withoutNewline(file)
  if (bytes.byteLength === 0)
    throw new CatalogError(
      'invalid-config',
      `The passphrase file at ${path}, named by ${origin}, is empty. Write the passphrase into it.`,
      { path },
    )
  return new KeySecret({ kind: 'passphrase', source: `the passphrase in ${path} (${origin})`, bytes })
}

/** Editors and `echo` end a file with one; it is no part of the passphrase. */
function withoutNewline(bytes: Uint8Array): Uint8Array {
  const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? 2 : 1) : 0
  return bytes.subarray(0, bytes.byteLength - end)
}
