// The durable memory of executions: one record and up to two outputs each, bounded in number, oldest forgotten first.
//
//   execution/record/ID   DAG-CBOR of ExecutionRecord without the absent fields
//   execution/stdout/ID, execution/stderr/ID   the kept beginning of the output, as it came
import { decodeCbor, encodeCbor } from '../../base/cbor.ts'
import type { KeyValue, KeyValueWrite } from '../../base/key-value.ts'
import type { ExecutionRecord } from '../executor.ts'
import type { OutputStream } from '../runtime.ts'

const recordPrefix = 'execution/record/'
const outputKey = (stream: OutputStream, id: string): string => `execution/${stream}/${id}`
const streams = ['stdout', 'stderr'] as const
const recordBytesAtMost = 256 * 1024

export class ExecutionRecords {
  readonly #store: KeyValue
  readonly #most: number
  /** In order of creation. */
  readonly #known = new Map<string, ExecutionRecord>()

  constructor(store: KeyValue, most: number) {
    this.#store = store
    this.#most = most
  }

  async load(): Promise<void> {
    const records: ExecutionRecord[] = []
    for await (const [key, bytes] of this.#store.entries({ prefix: recordPrefix }))
      records.push(decodeCbor(bytes, recordBytesAtMost, key) as ExecutionRecord)
    records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0))
    for (const record of records) this.#known.set(record.id, record)
  }

  get(id: string): ExecutionRecord | undefined {
    return this.#known.get(id)
  }

  all(): ExecutionRecord[] {
    return [...this.#known.values()]
  }

  /** Known at once, durable when it resolves. */
  async put(record: ExecutionRecord, outputs?: Readonly<Record<OutputStream, Uint8Array>>): Promise<void> {
    this.#known.set(record.id, record)
    const writes: KeyValueWrite[] = [
      { type: 'put', key: recordPrefix + record.id, value: encodeCbor(withoutAbsent(record)) },
    ]
    for (const stream of streams) {
      const value = outputs?.[stream]
      if (value !== undefined && value.length > 0)
        writes.push({ type: 'put', key: outputKey(stream, record.id), value })
    }
    await this.#store.batch([...writes, ...this.#forgetOldest()])
  }

  async output(stream: OutputStream, id: string): Promise<Uint8Array> {
    return (await this.#store.get(outputKey(stream, id))) ?? new Uint8Array()
  }

  /** What was kept of both outputs of an ended execution. */
  async outputs(id: string): Promise<Readonly<Record<OutputStream, Uint8Array>>> {
    return { stdout: await this.output('stdout', id), stderr: await this.output('stderr', id) }
  }

  /** Ended ones only: what still waits or runs is never forgotten. */
  #forgetOldest(): KeyValueWrite[] {
    const writes: KeyValueWrite[] = []
    for (const { id, endedAt } of this.#known.values()) {
      if (this.#known.size <= this.#most) break
      if (endedAt === undefined) continue
      this.#known.delete(id)
      writes.push({ type: 'delete', key: recordPrefix + id })
      for (const stream of streams) writes.push({ type: 'delete', key: outputKey(stream, id) })
    }
    return writes
  }
}

/** Absent is undefined in memory; DAG-CBOR has no undefined. */
const withoutAbsent = (value: object): unknown => JSON.parse(JSON.stringify(value))
