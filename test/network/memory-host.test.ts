// What a test can do to a memory network: partition it, cut it, slow it down.
import { describe, expect, test } from 'vitest'
import { MemoryNetwork } from '../../src/network/memory-host.ts'
import { readAll } from '../conformance/host.ts'

const limits = { maxInbound: 8, maxInboundPerPeer: 8 }

describe('MemoryNetwork', () => {
  test('a partition breaks connections and dials until it heals', async () => {
    const network = new MemoryNetwork()
    const [a, b, c] = [network.createHost('a'), network.createHost('b'), network.createHost('c')]
    b.handle('/x/1', async stream => void (await readAll(stream)), limits)
    const stream = await a.open('b', '/x/1')
    await c.dial('/memory/b')
    network.partition(['a'], ['b', 'c'])
    await expect(stream.read()).rejects.toMatchObject({ code: 'peer-unreachable' })
    await expect(a.open('b', '/x/1')).rejects.toMatchObject({ code: 'peer-unreachable' })
    expect(c.isConnected('b')).toBe(true)
    network.partition()
    await a.open('b', '/x/1')
  })

  test('a slow peer is slow', async () => {
    const network = new MemoryNetwork()
    const [a, b] = [network.createHost('a'), network.createHost('b')]
    b.handle('/send/1', async stream => stream.write(new Uint8Array(128 * 1024)), limits)
    network.slow('b', { bytesPerSecond: 1024 * 1024 })
    const before = Date.now()
    expect((await readAll(await a.open('b', '/send/1'))).byteLength).toBe(128 * 1024)
    expect(Date.now() - before).toBeGreaterThanOrEqual(100)
  })
})
