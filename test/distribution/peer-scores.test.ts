import { describe, expect, it } from 'vitest'
import { MemoryKeyValue } from '../../src/base/memory-key-value.ts'
import { defaultPeerScoresOptions, PeerScores } from '../../src/distribution/peer-scores.ts'

const create = (options = {}) =>
  new PeerScores({ records: new MemoryKeyValue() }, { ...defaultPeerScoresOptions, ...options })

const deliver = (scores: PeerScores, peer: string, bytesPerSecond: number) => {
  const link = scores.link(peer)
  link.begin(0)
  link.received(bytesPerSecond, 1000)
  link.end()
}

describe('whom to ask first', () => {
  it('the fast, then who is not known, then the slow', () => {
    const scores = create()
    deliver(scores, 'fast', 50_000_000)
    deliver(scores, 'slow', 100_000)
    expect(scores.rank(['slow', 'new', 'fast'])).toEqual(['fast', 'new', 'slow'])
  })

  it('a failure costs a place, and is forgiven with time', async () => {
    const scores = create({ failureHalfLifeMs: 20 })
    deliver(scores, 'fickle', 3_000_000)
    deliver(scores, 'steady', 2_000_000)
    scores.failed('fickle')
    expect(scores.rank(['fickle', 'steady'])).toEqual(['steady', 'fickle'])
    await new Promise(resolve => setTimeout(resolve, 200))
    expect(scores.rank(['fickle', 'steady'])).toEqual(['fickle', 'steady'])
  })

  it('remembers a bounded number of peers', () => {
    const scores = create({ maxPeers: 2 })
    deliver(scores, 'slow', 1_000_000 / 100)
    for (const peer of ['a', 'b']) deliver(scores, peer, 2_000_000)
    // As good as new.
    expect(scores.rank(['slow', 'c'])).toEqual(['slow', 'c'])
  })
})
