import { describe, expect, test } from 'vitest'
import { SendBuffers } from '../../src/distribution/send-buffers.ts'

const frame = Buffer.from('frame')

describe('buffers to send from', () => {
  test('have room for a frame before the bytes', () => {
    const buffers = new SendBuffers()
    const bytes = buffers.take(1000).fill(7)
    const framed = buffers.framed(frame, bytes) as Uint8Array
    expect(Buffer.from(framed)).toEqual(Buffer.concat([frame, Buffer.alloc(1000, 7)]))
    // Less than was taken is framed as well, where it begins at the beginning.
    expect(buffers.framed(frame, bytes.subarray(0, 3))?.byteLength).toBe(frame.byteLength + 3)
    expect(buffers.framed(frame, bytes.subarray(1))).toBeUndefined()
    expect(buffers.framed(Buffer.alloc(1000), bytes)).toBeUndefined()
    expect(buffers.framed(frame, new Uint8Array(1000))).toBeUndefined()
  })

  test('are used again once they are given back, by any view of them, once', () => {
    const buffers = new SendBuffers()
    const [first, second] = [buffers.take(500_000), buffers.take(500_000)]
    expect(second.buffer).not.toBe(first.buffer)
    buffers.give(buffers.framed(frame, first) as Uint8Array)
    buffers.give(first)
    buffers.give(new Uint8Array(500_000))
    const [third, fourth] = [buffers.take(500_000), buffers.take(500_000)]
    expect(third.buffer).toBe(first.buffer)
    expect(fourth.buffer).not.toBe(first.buffer)
  })
})
