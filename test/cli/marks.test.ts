// The commands by which a publisher marks what it has published, and what others are shown of it.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemoryNode } from '../control/memory-node.ts'
import { openShell, type Shell } from './shell.ts'

const node = new MemoryNode()
let shell: Shell

beforeAll(async () => {
  shell = await openShell(node)
  node.add('word-count', '1.2.0', new Map([['main.py', Buffer.from('print(1)')]]))
})
afterAll(() => shell.close())

const catalog = (...args: string[]) => shell.run(args)

describe('catalog yank', () => {
  it('marks a version, lists show it, whoever takes it is warned on standard error, and undo ends it', async () => {
    const yanked = await catalog('yank', 'word-count@1.2.0', '--reason', 'counts twice')
    expect(yanked.stdout).toBe(
      'Head 2 of word-count is signed and on its way to every node.\n  1.2.0 is yanked: counts twice\n',
    )
    expect((await catalog('list')).stdout).toMatch(/\[yanked\]/)
    expect(JSON.parse((await catalog('list', '--json')).stdout)).toMatchObject({
      releases: [{ name: 'word-count', yanked: 'counts twice' }],
    })
    const fetched = await catalog('fetch', 'word-count@1.2.0', '--no-out')
    expect([fetched.code, fetched.stderr]).toEqual([
      0,
      'catalog: warning: word-count@1.2.0 was yanked by its publisher: counts twice\n',
    ])
    const json = await catalog('fetch', 'word-count@1.2.0', '--no-out', '--allow-stale', '--json')
    expect(JSON.parse(json.stdout).warnings).toHaveLength(1)
    expect(json.stderr).toBe('')
    const undone = await catalog('yank', 'word-count@1.2.0', '--undo', '--json')
    expect(JSON.parse(undone.stdout)).toMatchObject({ name: 'word-count', changed: true, marked: [] })
    expect((await catalog('list')).stdout).not.toMatch(/\[yanked\]/)
  })

  it('--revoke is for good, and says so in lists', async () => {
    expect((await catalog('yank', 'word-count@1.2.0', '--revoke')).stdout).toMatch(/1\.2\.0 is revoked: /)
    expect((await catalog('list')).stdout).toMatch(/\[revoked\]/)
  })

  it('refuses what no head could carry', async () => {
    const { code, stderr } = await catalog('yank', 'word-count@1.2.0', '--reason', 'x'.repeat(201))
    expect(code).toBe(2)
    expect(stderr).toMatch(/reason/)
    expect((await catalog('yank')).code).toBe(2)
    expect((await catalog('yank', 'unknown@1.0.0')).code).toBe(4)
  })
})

describe('catalog deprecate', () => {
  it('says so, and takes it back', async () => {
    const done = await catalog('deprecate', 'word-count', '--message', 'Use text-stats.')
    expect(done.stdout).toMatch(/ {2}deprecated: Use text-stats\./)
    expect((await catalog('list')).stdout).toMatch(/\[revoked, deprecated\]/)
    const undone = await catalog('deprecate', 'word-count', '--undo')
    expect(undone.stdout).toMatch(/Nothing is yanked or deprecated/)
  })
})
