// Counts the records and bytes that each publisher has in the catalogue, and says when one more is too many.
import { CatalogError } from '../../base/errors.ts'

export interface QuotaOptions {
  /** Releases and heads of one publisher, and their bytes. */
  readonly maxRecordsPerPublisher: number
  readonly maxBytesPerPublisher: number
  /** The same for all publishers together. */
  readonly maxRecords: number
  readonly maxBytes: number
}

interface Usage {
  records: number
  bytes: number
}

export class Quota {
  readonly #options: QuotaOptions
  readonly #exempt: string | undefined
  readonly #byPublisher = new Map<string, Usage>()
  readonly #total: Usage = { records: 0, bytes: 0 }

  /** The records of the `exempt` publisher (this node's own) are counted and never refused. */
  constructor(options: QuotaOptions, exempt: string | undefined) {
    this.#options = options
    this.#exempt = exempt
  }

  /** @throws CatalogError `quota-exceeded`; nothing is counted then. */
  reserve(publisher: string, records: number, bytes: number): void {
    const { maxRecordsPerPublisher, maxBytesPerPublisher, maxRecords, maxBytes } = this.#options
    const usage = this.usageOf(publisher)
    if (publisher !== this.#exempt) {
      if (usage.records + records > maxRecordsPerPublisher || usage.bytes + bytes > maxBytesPerPublisher)
        throw new CatalogError(
          'quota-exceeded',
          `A record of the publisher ${publisher} is refused: it has ${usage.records} records of ${usage.bytes} bytes here, and ${maxRecordsPerPublisher} records of ${maxBytesPerPublisher} bytes are its share.`,
          { publisher },
        )
      if (this.#total.records + records > maxRecords || this.#total.bytes + bytes > maxBytes)
        throw new CatalogError(
          'quota-exceeded',
          `A record of the publisher ${publisher} is refused: the catalogue holds ${this.#total.records} records of ${this.#total.bytes} bytes, its bound. Remove releases or raise the bound.`,
          { publisher },
        )
    }
    this.count(publisher, records, bytes)
  }

  /** Counts without asking: for what is stored already, and (negative) for what goes. */
  count(publisher: string, records: number, bytes: number): void {
    const usage = this.usageOf(publisher)
    usage.records += records
    usage.bytes += bytes
    this.#total.records += records
    this.#total.bytes += bytes
    if (usage.records === 0) this.#byPublisher.delete(publisher)
    else this.#byPublisher.set(publisher, usage)
  }

  /** Whether the publisher has more than half of its share. */
  isCrowded(publisher: string): boolean {
    const { records, bytes } = this.usageOf(publisher)
    const { maxRecordsPerPublisher, maxBytesPerPublisher } = this.#options
    return records > maxRecordsPerPublisher / 2 || bytes > maxBytesPerPublisher / 2
  }

  usageOf(publisher: string): { records: number; bytes: number } {
    return this.#byPublisher.get(publisher) ?? { records: 0, bytes: 0 }
  }
}
