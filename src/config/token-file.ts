// The token for another user's control socket, from a file: never an argument, which other processes can see.
import { resolve } from 'node:path'
import { CatalogError } from '../base/errors.ts'
import { readPrivateFile } from '../trust/private-file.ts'

/** @throws CatalogError `no-such-path`, `forbidden` (others may read it), `home-not-owned`, `invalid-config` */
export async function readTokenFile(file: string): Promise<string> {
  const path = resolve(file)
  const bytes = await readPrivateFile(path, {
    what: 'The token file',
    maxBytes: 256,
    followLinks: true,
    rootMayOwn: true,
    remedy: 'It holds what `catalog trust token create` printed, and nothing else.',
  })
  if (bytes === undefined)
    throw new CatalogError(
      'no-such-path',
      `There is no token file at ${path}. Write the token that the owner of the node gave you into it (chmod 600), or name another with --token-file.`,
      { path },
    )
  const token = Buffer.from(bytes).toString('latin1').trim()
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new CatalogError(
      'invalid-config',
      `The token file at ${path} holds no token: it is one line, catalog-token-…, as \`catalog trust token create\` printed it.`,
      { path },
    )
  return token
}
