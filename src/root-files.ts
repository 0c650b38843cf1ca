// What `catalog trust rotate root` does with files: keys of the root, proposals, the signatures that they gather, and the
// membership files of authorities that a new root makes.
// It needs neither a daemon nor a home: the keys of a root lie on machines without a network. A part of the
// composition root; the formats are trust/root-rotation.ts.
import { readFile, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { CatalogError } from './base/errors.ts'
import { homePaths } from './config/home.ts'
import { findPassphrase } from './config/passphrase.ts'
import { openRootKeys } from './home-keys.ts'
import { KeyFile } from './trust/key-file.ts'
import { generatePublisherKeys, savePublisherKeys } from './trust/keys.ts'
import { authorityForRequest } from './trust/new-authority.ts'
import { decodeRequest, encodeMembershipFile } from './trust/request.ts'
import { decodeRoot } from './trust/root.ts'
import {
  completeProposal,
  decodeProposal,
  decodePublicKeys,
  describeProposal,
  encodeProposal,
  encodePublicKeys,
  maxProposalCharacters,
  type Proposal,
  type ProposalState,
  proposeRoot,
  signProposal,
} from './trust/root-rotation.ts'
import { faultySignature, type SignatureCheck } from './trust/signature-check.ts'
import { Signer } from './trust/signer.ts'

export interface ProposeOptions {
  readonly file: string
  /** The root that it is to follow, in base64, and what it carries on (fingerprints). */
  readonly current: string
  readonly authorities: readonly string[]
  /** Fingerprint of the network's first root. */
  readonly network: string
  /** Files of requests, of nodes that it is to make authorities. */
  readonly addAuthorities: readonly string[]
  /** Files of public keys. */
  readonly addKeys: readonly string[]
  readonly remove: readonly string[]
  readonly threshold?: number
  readonly revoke: readonly string[]
  readonly lifetimeMs?: number
}

/** Files of the root's keys. @throws CatalogError `output-exists`, `invalid-request`, and what reading a file gives */
export const rootFiles = {
  /** A new key for a holder: the secret one under the passphrase, where there is one, and the public one beside it. */
  async makeKey(options: {
    file: string
    home: string
    passphraseFile?: string
  }): Promise<{ key: string; publicKeys: string }> {
    const { file, home, passphraseFile: flag } = options
    const path = resolve(file)
    const passphrase = await findPassphrase({ flag, env: process.env, home })
    const none = { find: () => Promise.reject(new TypeError('a new key is not read')) }
    const keys = await generatePublisherKeys()
    await savePublisherKeys(new KeyFile({ secrets: none }, { path, holds: 'root' }), keys, passphrase)
    const publicKeys = { ed25519: keys.ed25519.publicKey, falcon: keys.falcon.publicKey }
    await write(`${path}.pub`, encodePublicKeys(publicKeys), 'wx')
    return { key: keys.fingerprint, publicKeys: `${path}.pub` }
  },

  async propose(options: ProposeOptions): Promise<ProposalState> {
    const { file, current, authorities, addKeys, remove, revoke, threshold, lifetimeMs } = options
    const add = await Promise.all(addKeys.map(async path => decodePublicKeys(await read(path))))
    const now = Date.now()
    const check = { check: async (one: SignatureCheck) => faultySignature(one) }
    const made = await Promise.all(
      options.addAuthorities.map(async path =>
        authorityForRequest(await decodeRequest(await read(path), check), options.network, now),
      ),
    )
    const changes = {
      ...{ add, remove, revoke, authorities: made },
      ...(threshold === undefined ? {} : { threshold }),
      ...(lifetimeMs === undefined ? {} : { lifetimeMs }),
    }
    const before = decodeRoot(new Uint8Array(Buffer.from(current, 'base64')))
    const proposal = proposeRoot(before, changes, authorities, now)
    await write(file, encodeProposal(proposal), 'wx')
    return describeProposal(proposal)
  },

  /** Adds the signatures of the keys in a directory. */
  async sign(options: {
    file: string
    directory: string
    home: string
    passphraseFile?: string
  }): Promise<ProposalState> {
    const { file, directory, home, passphraseFile: flag } = options
    const proposal = decodeProposal(await read(file))
    const passphrase = await findPassphrase({ flag, env: process.env, home })
    const keys = await openRootKeys(homePaths(home), passphrase, resolve(directory))
    const signers = keys.map(each => new Signer({ keys: each }))
    let signed: Proposal
    try {
      signed = await signProposal(proposal, signers)
    } finally {
      await Promise.all(signers.map(signer => signer.stop()))
    }
    await write(file, encodeProposal(signed), 'w')
    return describeProposal(signed)
  },

  /** The finished document, in base64. */
  async complete({ file }: { file: string }): Promise<{ document: string; state: ProposalState }> {
    const proposal = decodeProposal(await read(file))
    const { bytes } = completeProposal(proposal)
    return { document: Buffer.from(bytes).toString('base64'), state: describeProposal(proposal) }
  },

  /**
   * For each authority that a published root makes, the file that completes its home; gives their paths. `roots`: all of
   * the network's from the first on, in base64. Nothing in a file is secret, and written again it is the same.
   */
  async memberships({ file, roots }: { file: string; roots: readonly string[] }): Promise<string[]> {
    const { authorities = [] } = decodeProposal(await read(file))
    const bytes = roots.map(root => new Uint8Array(Buffer.from(root, 'base64')))
    const paths: string[] = []
    for (const [at, authority] of authorities.entries()) {
      const path = `${file}${authorities.length === 1 ? '' : `.${at + 1}`}.membership`
      const joined = { roots: bytes, node: [], publisher: [], authority: [authority.bytes], revocations: [] }
      await write(path, encodeMembershipFile(joined), 'w')
      paths.push(path)
    }
    return paths
  },
}

async function read(path: string): Promise<string> {
  try {
    const bytes = await readFile(resolve(path))
    if (bytes.byteLength > maxProposalCharacters)
      throw new CatalogError(
        'too-large',
        `The file ${path} has ${bytes.byteLength} bytes; at most ${maxProposalCharacters} are read.`,
      )
    return bytes.toString('latin1')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new CatalogError('no-such-path', `There is no file ${path}.`, { path })
    throw error
  }
}

async function write(path: string, text: string, flag: 'w' | 'wx'): Promise<void> {
  try {
    await writeFile(resolve(path), text, { flag, flush: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new CatalogError('output-exists', `The file ${path} exists and is kept. Name another.`, { path })
    throw error
  }
}
