// The commands that decide what stays on a node, as people and scripts see them.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemoryNode } from '../control/memory-node.ts'
import { openShell, type Shell } from './shell.ts'

const node = new MemoryNode()
let shell: Shell

beforeAll(async () => {
  shell = await openShell(node)
  node.add('word-count', '1.2.0', new Map([['main.py', Buffer.alloc(2_000_000)]]))
})
afterAll(() => shell.close())

const catalog = (...args: string[]) => shell.run(args)

describe('catalog pin', () => {
  it('pins, lists and unpins', async () => {
    expect((await catalog('pin', '--list')).stdout).toBe('Nothing is pinned.\n')
    expect((await catalog('pin', 'word-count')).stdout).toMatch(/^Pinned word-count 1\.2\.0: it stays until/)
    expect((await catalog('list')).stdout).toMatch(/word-count .* complete, pinned /)
    const listed = await catalog('pin', '--list', '--json')
    expect(JSON.parse(listed.stdout)).toMatchObject({ releases: [{ name: 'word-count', pinned: true }] })
    const unpinned = await catalog('pin', '--remove', 'word-count', '--json')
    expect(JSON.parse(unpinned.stdout)).toMatchObject({ name: 'word-count', pinned: false })
    expect((await catalog('pin', '--list')).stdout).toBe('Nothing is pinned.\n')
  })

  it('wants a release or --list, and not both', async () => {
    for (const args of [['pin'], ['pin', '--list', 'word-count'], ['pin', '--list', '--remove']])
      expect((await catalog(...args)).code).toBe(2)
    expect((await catalog('pin', 'unknown')).code).toBe(4)
  })
})

describe('catalog gc', () => {
  it('says what was freed, or what would be', async () => {
    const { code, stdout } = await catalog('gc')
    expect(code).toBe(0)
    expect(stdout.split('\n')).toEqual([
      'Freed 4.8 MiB:',
      '  2 contents that no release names, 4.8 MiB',
      '  1 file of interrupted work, 1000 B',
      '  7 records of shards that are gone',
      '',
    ])
    expect((await catalog('gc', '--dry-run')).stdout).toMatch(/^Would free 4\.8 MiB:/)
    const json = JSON.parse((await catalog('gc', '--dry-run', '--json')).stdout)
    expect(json).toMatchObject({ dryRun: true, bytes: 5_001_000, unreferenced: { contents: 2 } })
  })
})

describe('catalog check', () => {
  const release = { id: 'id', name: 'word-count', version: '1.2.0' }

  it('ends well where all is whole, or was repaired, and with 7 where damage is left', async () => {
    const whole = await catalog('check')
    expect([whole.code, whole.stdout]).toEqual([0, 'Checked 1 content, 1.9 MiB: all of it is whole.\n'])
    node.damaged = [
      { root: 'root', releases: [release], shards: [1, 4], repaired: false, bytesTransferred: 0 },
    ]
    const found = await catalog('check', 'word-count')
    expect(found.code).toBe(7)
    expect(found.stdout).toMatch(/1 is damaged\.\n {2}word-count 1\.2\.0: 2 shards damaged\n.*--repair/)
    const repaired = await catalog('check', '--repair')
    expect(repaired.code).toBe(0)
    expect(repaired.stdout).toMatch(
      /1 is damaged, and repaired\.\n {2}word-count 1\.2\.0: 2 shards repaired\n$/,
    )
    node.damaged = node.damaged.map(damage => ({
      ...damage,
      error: { code: 'no-providers', message: 'Nobody has it.' },
    }))
    const left = await catalog('check', '--repair', '--json')
    expect(left.code).toBe(7)
    expect(JSON.parse(left.stdout)).toMatchObject({
      contents: 1,
      damaged: [{ repaired: false, shards: [1, 4] }],
    })
    expect((await catalog('check', '--repair')).stdout).toMatch(/not repaired: Nobody has it\./)
    expect((await catalog('check', 'unknown')).code).toBe(4)
  })
})

describe('catalog status', () => {
  it('says what holds the space', async () => {
    expect((await catalog('status')).stdout).toMatch(
      /^Storage +118 MiB of 191 MiB: 95\.4 MiB published, 19\.1 MiB pinned, 3\.3 MiB evictable$/m,
    )
  })
})
