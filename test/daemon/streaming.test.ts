// Reading one file of a release between real daemons, before the rest of it is here.
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { FetchResult, PublishResult } from '../../src/control/api.ts'
import { Laboratory, until } from './harness.ts'

const laboratory = new Laboratory()
const mebibyte = 1024 * 1024

describe('one file of a release', { timeout: 60_000 }, () => {
  it('comes long before the rest, to the byte, and what came with it is kept', async () => {
    const alice = await laboratory.node('stream-alice')
    await alice.start([], { ...process.env, CATALOG_BANDWIDTH_UP: '4MiB' })
    const bob = await laboratory.started('stream-bob', [alice])
    const last = randomBytes(2_000_000)
    const path = await laboratory.package('streamed', '1.0.0', {
      'a/large.bin': randomBytes(24 * mebibyte),
      'z/last.bin': last,
      'z/notes.txt': 'the last words\n',
    })
    const { id } = await alice.json<PublishResult>('publish', path)
    await until('bob knows it', async () => (await bob.client.releases(false)).some(each => each.id === id))

    const chunks: Uint8Array[] = []
    for await (const chunk of bob.client.file(id, 'z/last.bin')) chunks.push(chunk)
    expect(Buffer.compare(Buffer.concat(chunks), last)).toBe(0)
    const tail: Uint8Array[] = []
    for await (const chunk of bob.client.file(id, 'z/last.bin', { range: { first: 1_999_990 } }))
      tail.push(chunk)
    expect(Buffer.compare(Buffer.concat(tail), last.subarray(1_999_990))).toBe(0)
    expect((await bob.run('cat', id, 'z/notes.txt')).stdout).toBe('the last words\n')
    expect(await bob.json('cat', id, 'z/notes.txt')).toEqual({
      path: 'z/notes.txt',
      bytes: 15,
      content: 'the last words\n',
    })
    expect((await bob.run('cat', id, 'z/nothing')).code).toBe(4)

    const { bytesTransferred } = (await bob.json('fetch', id, '--no-out')) as FetchResult
    // Most of it had not come yet; what had is not asked for again, but for a shard or two of what broke off.
    expect(bytesTransferred).toBeGreaterThan(8 * mebibyte)
    expect(bytesTransferred).toBeLessThan(24 * mebibyte + 700_000)
  })
})
