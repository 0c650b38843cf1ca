// Joining by files, where the node cannot connect, or where no authority is left: `catalog init` writes a request, an
// authority answers it or the next root names its maker as an authority, and the answer completes the home. What it has
// in common with joining by an invite is in join.ts.
import { readFile, stat, writeFile } from 'node:fs/promises'
import { CatalogError, isCatalogError } from './base/errors.ts'
import { createAuthorityKeys, openAuthorityKeys } from './home-keys.ts'
import { type InitResult, makeHome, makeKeys, saveMembership } from './init.ts'
import {
  inHome,
  type JoiningKeys,
  type JoinOptions,
  made,
  membershipOf,
  type OpenedHome,
  withSigners,
} from './join.ts'
import { peerOfNodeKey } from './network/identity.ts'
import { decodeChain } from './trust/certificate.ts'
import { type Chain, loadChain } from './trust/certificate-files.ts'
import { subjectOf } from './trust/chain.ts'
import { certifyOwn } from './trust/founding.ts'
import { isNewAuthority, type Joined, proveJoined, proveNewAuthority } from './trust/joined.ts'
import { decodeMembershipFile, encodeRequest } from './trust/request.ts'
import { decodeRoot } from './trust/root.ts'

/**
 * `catalog init --request FILE`: the keys, and the file that an authority answers with `catalog trust issue`, or the next
 * root with `catalog trust rotate root --add-authority`. A home that is a member already asks with the keys that it has.
 * @throws CatalogError as `initHome`, `output-exists`
 */
export async function requestMembership(
  options: JoinOptions & {
    readonly request: string
    /** The node is to be an authority. */
    readonly authority?: boolean
  },
): Promise<{ home: string; peerId: string; publisher: string; authority?: string; request: string }> {
  try {
    const home = await makeKeys(options)
    return await writeRequest({ ...home, label: options.label ?? home.label }, options)
  } catch (error) {
    if (!isCatalogError(error, 'already-initialised') || options.certificate !== undefined) throw error
    return inHome(options, undefined, error, home => writeRequest({ ...home, label: options.label }, options))
  }
}

async function writeRequest(
  home: Pick<OpenedHome, 'paths' | 'keys' | 'passphrase'> & {
    readonly root?: string
    readonly label: string | undefined
  },
  { request, authority: wanted }: { readonly request: string; readonly authority?: boolean },
) {
  const { paths, keys: own, passphrase, root, label } = home
  const { nodeKey, node, publisherKeys } = own
  const authority = wanted === true ? await createAuthorityKeys(paths, passphrase) : undefined
  const about = { label, time: Date.now(), ...(root === undefined ? {} : { root }) }
  const text = await withSigners({ node, publisherKeys, authority }, signers => encodeRequest(about, signers))
  await writeFile(request, text, { flag: 'wx', flush: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
    throw new CatalogError(
      'output-exists',
      `The request was not written: ${request} exists. Name another file, or move it away.`,
      { path: request },
    )
  })
  return {
    ...{ home: paths.home, peerId: peerOfNodeKey(nodeKey), publisher: publisherKeys.fingerprint, request },
    ...(authority === undefined ? {} : { authority: authority.fingerprint }),
  }
}

/**
 * `catalog init --membership FILE`: completes a home by the answer to its request. The file is believed for the root
 * fingerprint that was given beside it, or that the home has; else for what it says: then it must come from a trusted
 * hand.
 * @throws CatalogError as `initHome`, `certificate-…`, `root-not-trusted`
 */
export async function joinByFile(
  options: JoinOptions & { readonly membership: string; readonly root?: string },
): Promise<InitResult> {
  const joined = decodeMembershipFile(await readSmallFile(options.membership))
  const firstRoot = decodeRoot(joined.roots[0] ?? new Uint8Array())
  const root = options.root ?? firstRoot.fingerprint
  const about = { network: firstRoot.network, addresses: [] }
  try {
    return await makeHome(options, async ({ keys, paths, passphrase }) => {
      const authority = await openAuthorityKeys(paths, passphrase)
      return { membership: membershipOf(await complete(joined, root, { ...keys, authority }), about) }
    })
  } catch (error) {
    if (!isCatalogError(error, 'already-initialised')) throw error
    return inHome(options, root, error, async ({ paths, keys, passphrase }) => {
      const before = await loadChain(paths.trust.publisher)
      const membership = membershipOf(await complete(joined, root, keys, before), about)
      await saveMembership(paths, membership)
      return made(paths, keys, membership, passphrase)
    })
  }
}

/**
 * Proved; and for an authority that the root made, with what it certifies itself: its node, and its publisher, which
 * keeps the id and the names that it had (`before`), as it could give them to anybody.
 */
function complete(
  joined: Joined,
  root: string,
  keys: Omit<JoiningKeys, 'nodeKey'>,
  before?: Chain,
): Promise<Joined> {
  return withSigners(keys, async ({ node, publisher, authority: signer }, verifier) => {
    const deps: Parameters<typeof proveJoined>[3] = { check: check => verifier.check(check), now: Date.now }
    const [own, subject] = [node.publicKeys, publisher.publicKeys]
    const chain = joined.authority
    if (!isNewAuthority(joined) || chain === undefined) {
      await proveJoined(joined, root, { node: own, publisher: subject, authority: signer?.publicKeys }, deps)
      return joined
    }
    if (signer === undefined)
      throw new CatalogError(
        'certificate-wrong-usage',
        'The membership file makes an authority, and this home has no keys of one. It is for the home that `catalog init --request FILE --authority` was run for.',
      )
    await proveNewAuthority(joined, root, signer.publicKeys, deps)
    const [leaf] = before === undefined ? [] : decodeChain(before)
    const { publisher: fingerprint, names } =
      leaf?.type === 'publisher' && subjectOf(leaf) === publisher.fingerprint
        ? leaf
        : { publisher: publisher.fingerprint, names: [] }
    const { revocations, ...chains } = await certifyOwn(
      { chain, signer },
      { node: own, publisher: { keys: subject, fingerprint } },
      { names, now: Date.now() },
    )
    return { ...joined, ...chains, revocations: [revocations.bytes] }
  })
}

const maxFileBytes = 2 * 1024 * 1024

async function readSmallFile(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) throw new CatalogError('no-such-path', `There is no file ${path}.`, { path })
  if (found.size > maxFileBytes)
    throw new CatalogError('too-large', `${path} is ${found.size} bytes, too large for what it should be.`, {
      path,
    })
  return readFile(path, 'utf8')
}
