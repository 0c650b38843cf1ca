// The unlock key: what opens the keys of a home without a passphrase. 32 random bytes in a 0600 file of their own, which
// can be left out of a backup or kept on another medium.
//
//   file = "catalog-unlock-key-v1 " || base64url of the 32 bytes (RFC 4648, without padding) || "\n"
import { randomBytes } from 'node:crypto'
import { CatalogError } from '../base/errors.ts'
import { KeySecret } from './key-encryption.ts'
import { createPrivateFile, readPrivateFile } from './private-file.ts'

const line = /^catalog-unlock-key-v1 ([A-Za-z0-9_-]{43})\n?$/

/** Undefined where there is no file. @throws CatalogError `forbidden`, `home-not-owned`, `invalid-config` */
export async function loadUnlockKey(path: string): Promise<KeySecret | undefined> {
  const file = await readPrivateFile(path, { what: 'The unlock key', maxBytes: 256, followLinks: true })
  if (file === undefined) return undefined
  const [, text] = line.exec(Buffer.from(file).toString('latin1')) ?? []
  file.fill(0)
  if (text === undefined)
    throw new CatalogError(
      'invalid-config',
      `The unlock key at ${path} cannot be used: it is not in the form that \`catalog init\` writes. Restore the file from a backup.`,
      { path },
    )
  const bytes = new Uint8Array(Buffer.from(text, 'base64url'))
  return new KeySecret({ kind: 'key-file', source: `the unlock key in ${path}`, bytes })
}

/** Durable when it resolves, and never replaced: keys may be encrypted with it. */
export async function loadOrCreateUnlockKey(path: string): Promise<KeySecret> {
  const existing = await loadUnlockKey(path)
  if (existing !== undefined) return existing
  const text = `catalog-unlock-key-v1 ${randomBytes(32).toString('base64url')}\n`
  await createPrivateFile(path, Buffer.from(text))
  // Read back, whoever was first.
  const made = await loadUnlockKey(path)
  if (made !== undefined) return made
  throw new CatalogError(
    'storage-failed',
    `The unlock key was written to ${path} and is not there. Check the disk.`,
  )
}
