// For how long the outputs of executions are kept.
import { describe, expect, it } from 'vitest'
import { Results } from '../../src/execution/results.ts'

describe('the outputs of an execution', () => {
  const hour = 3_600_000
  const now = Date.parse('2026-11-22T12:00:00Z')
  const at = (hoursAgo: number) => new Date(now - hoursAgo * hour).toISOString()

  it('are kept while it runs, for a time after its end, and then no more', () => {
    const records: { id: string; resultRoot?: string; endedAt?: string }[] = []
    const results = new Results({ records: () => records, now: () => now }, { keepMs: 2 * hour })
    expect(results.state('root')).toBeUndefined()
    records.push({ id: 'one' })
    results.begin('one', 'root')
    expect(results.state('root')).toBe('kept')
    records[0] = { id: 'one', resultRoot: 'root', endedAt: at(1) }
    expect(results.state('root')).toBe('kept')
    records[0] = { id: 'one', resultRoot: 'root', endedAt: at(3) }
    expect(results.state('root')).toBe('expired')
    // The same outputs of a later execution.
    records.push({ id: 'two', resultRoot: 'root', endedAt: at(0.5) })
    expect(results.state('root')).toBe('kept')
    expect(results.state('another')).toBeUndefined()
  })

  it('that were stored by an execution which then failed to say so belong to nobody', () => {
    const records: { id: string; endedAt?: string }[] = [{ id: 'one' }]
    const results = new Results({ records: () => records, now: () => now }, { keepMs: hour })
    results.begin('one', 'root')
    records[0] = { id: 'one', endedAt: at(0) }
    expect(results.state('root')).toBeUndefined()
  })
})
