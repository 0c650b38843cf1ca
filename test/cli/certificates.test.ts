// `catalog trust invite|grant|revoke|issue|issued` from the shell to the socket, against a node in memory.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemoryNode } from '../control/memory-node.ts'
import { openShell, type Shell } from './shell.ts'

const peer = `12D3KooW${'b'.repeat(44)}`
const node = new MemoryNode()
let shell: Shell

beforeAll(async () => {
  shell = await openShell(node)
})
afterAll(() => shell.close())

const trust = (...args: string[]) => shell.run(['trust', ...args])

describe('catalog trust', () => {
  it('invite prints the line first, and what to do with it', async () => {
    const { code, stdout } = await trust(
      'invite',
      '--expires',
      '12h',
      '--label',
      'lab',
      '--role',
      'store',
      '--can',
      'fetch,publish',
    )
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^catalog-invite-a+\n\nOne node can join with this line until 2026-11-22 12:00:00;.*\n {2}catalog init --join INVITE\n$/,
    )
    expect(node.certificates.invites.at(-1)).toEqual({
      expiresSeconds: 43_200,
      label: 'lab',
      roles: ['store'],
      capabilities: ['fetch', 'publish'],
    })
    expect(JSON.parse((await trust('invite', '--json')).stdout)).toEqual({
      invite: expect.stringMatching(/^catalog-invite-/),
      expires: expect.any(String),
    })
  })

  it('invite refuses what is no time or no role', async () => {
    expect(await trust('invite', '--expires', 'soon')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--expires soon is no time'),
    })
    expect(await trust('invite', '--role', 'king')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('roles'),
    })
  })

  it('grant says who holds what until when, and whether it got there', async () => {
    const { stdout } = await trust('grant', 'acme/*', 'tool', '--to', peer)
    expect(stdout).toContain(`${peer} holds these names as its own publisher.\n`)
    expect(stdout).toMatch(/Names +acme\/\*, tool\nRights +publish, yank, delegate\nUntil +2027-02-20/)
    node.certificates.connected = false
    expect((await trust('grant', 'tool', '--to', peer)).stdout).toContain(
      'It is not connected: it gets the certificate when it is.',
    )
    node.certificates.connected = true
  })

  it('grant --freshen and --delegate let the peer sign as this node’s publisher', async () => {
    const freshen = JSON.parse((await trust('grant', '*', '--to', peer, '--freshen', '--json')).stdout)
    expect(freshen).toMatchObject({ by: 'delegation', rights: ['freshen'] })
    const delegate = JSON.parse(
      (await trust('grant', 'tool', '--to', peer, '--delegate', '--rights', 'publish,yank', '--json')).stdout,
    )
    expect(delegate).toMatchObject({ by: 'delegation', rights: ['publish', 'yank'] })
  })

  it('grant refuses a pattern, a peer or a right that is none, and needs --to', async () => {
    expect(await trust('grant', 'Acme', '--to', peer)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no name or pattern'),
    })
    expect(await trust('grant', 'acme', '--to', 'x')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is no peer id'),
    })
    expect(await trust('grant', 'acme', '--to', peer, '--rights', 'all')).toMatchObject({ code: 2 })
    expect(await trust('grant', 'acme')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--to PEER'),
    })
    expect(await trust('grant', '--to', peer)).toMatchObject({ code: 2 })
  })

  it('revoke counts what it took back; issued shows it with --all', async () => {
    const before = JSON.parse((await trust('issued', '--json')).stdout).certificates.length
    expect(before).toBeGreaterThan(0)
    const { stdout } = await trust('revoke', peer, '--reason', 'key stolen')
    expect(stdout).toMatch(
      new RegExp(`^Revoked ${before} certificates\\. Connected nodes hear of it at once`),
    )
    expect((await trust('issued')).stdout).toContain('Nothing that still holds was issued here.')
    expect((await trust('issued', '--all')).stdout).toMatch(/revoked 2026-11-22 00:00:00: key stolen/)
    expect(await trust('revoke', `12D3KooW${'c'.repeat(44)}`)).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('Nothing was revoked'),
    })
  })

  it('rotate publisher tells the new keys and what became of the old ones', async () => {
    const plain = (await trust('rotate', 'publisher')).stdout
    expect(plain).toMatch(/^The publisher has new keys; 1 head signed anew\./)
    expect(plain).toMatch(/Publisher +bown\n.*Keys +bnew\n/s)
    expect(plain).toContain('whose certificate holds until it ends')
    expect((await trust('rotate', 'publisher', '--revoke-old')).stdout).toContain('bold, revoked')
    expect(await trust('rotate', 'publisher', '--reason', 'stolen')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('it needs --revoke-old'),
    })
    await trust('revoke', `12D3KooW${'a'.repeat(44)}`)
  })

  it('issue reads a request file, and writes its answer once', async () => {
    const [request, out] = [join(shell.home, 'a.request'), join(shell.home, 'a.membership')]
    writeFileSync(request, 'catalog-request-v1 AAAA\n')
    expect((await trust('issue', request)).stdout).toBe('catalog-membership-v1 AAAA\n')
    expect((await trust('issue', request, '--out', out)).stdout).toContain(`the answer in ${out}`)
    expect(readFileSync(out, 'utf8')).toBe('catalog-membership-v1 AAAA\n')
    expect(await trust('issue', request, '--out', out)).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('exists'),
    })
    expect(await trust('issue', join(shell.home, 'none'))).toMatchObject({ code: 4 })
    writeFileSync(request, 'x'.repeat(100_000))
    expect(await trust('issue', request)).toMatchObject({ code: 8 })
  })
})
