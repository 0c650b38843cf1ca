// A disk that fails where a test wants it: the n-th call of a kind of operation gives an error. When a sync fails, the
// bytes that it should have made durable are gone, as on a disk whose cache the kernel dropped; a lying disk loses
// them too, but says that all is well.
import { open } from 'node:fs/promises'
import { CatalogError } from '../../src/base/errors.ts'
import type { KeyValue, KeyValueWrite } from '../../src/base/key-value.ts'
import type { FileSystem, OpenFile } from '../../src/store/file-system.ts'
import { nodeFileSystem } from '../../src/store/node-file-system.ts'

export const operations = [
  'open',
  'mkdir',
  'rename',
  'unlink',
  'write',
  'datasync',
  'sync',
  'record',
] as const
export type Operation = (typeof operations)[number]

export interface Fault {
  readonly operation: Operation
  /** Counted from 1. */
  readonly call: number
  readonly errno: 'EIO' | 'ENOSPC'
  /** Report success although it failed. */
  readonly lie?: boolean
}

export class FailingDisk {
  readonly #fault: Fault | undefined
  readonly calls = Object.fromEntries(operations.map(operation => [operation, 0])) as Record<
    Operation,
    number
  >
  struck = false

  constructor(fault?: Fault) {
    this.#fault = fault
  }

  /** True when this call is the one that fails. */
  #strikes(operation: Operation): boolean {
    this.calls[operation] += 1
    const strikes = this.#fault?.operation === operation && this.#fault.call === this.calls[operation]
    this.struck ||= strikes
    return strikes
  }

  #error(operation: Operation): Error {
    const errno = this.#fault?.errno as string
    // The database gives its errors a code of ours.
    if (operation === 'record')
      return new CatalogError(errno === 'EIO' ? 'storage-failed' : 'no-space', 'injected, record')
    return Object.assign(new Error(`${errno}: injected, ${operation}`), { code: errno })
  }

  async #run<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    if (this.#strikes(operation)) throw this.#error(operation)
    return work()
  }

  readonly fileSystem: FileSystem = {
    ...nodeFileSystem,
    open: (path, flags, mode) =>
      this.#run('open', async () => this.#file(path, await nodeFileSystem.open(path, flags, mode))),
    mkdir: (path, options) => this.#run('mkdir', () => nodeFileSystem.mkdir(path, options)),
    rename: (from, to) => this.#run('rename', () => nodeFileSystem.rename(from, to)),
    unlink: path => this.#run('unlink', () => nodeFileSystem.unlink(path)),
  }

  #file(path: string, file: OpenFile): OpenFile {
    let unsynced: { readonly position: number; readonly length: number }[] = []
    const lose = async () => {
      const raw = await open(path, 'r+')
      for (const { position, length } of unsynced) await raw.write(Buffer.alloc(length), 0, length, position)
      await raw.close()
    }
    const sync = async (operation: 'sync' | 'datasync') => {
      if (this.#strikes(operation)) {
        await lose()
        unsynced = []
        if (this.#fault?.lie !== true) throw this.#error(operation)
      } else {
        unsynced = []
        await file[operation]()
      }
    }
    return {
      read: (buffer, offset, length, position) => file.read(buffer, offset, length, position),
      write: async (buffer, offset, length, position) => {
        // The failing write got half of the bytes out.
        if (this.#strikes('write')) {
          await file.write(buffer, offset, length >> 1, position)
          throw this.#error('write')
        }
        unsynced.push({ position, length })
        return file.write(buffer, offset, length, position)
      },
      datasync: () => sync('datasync'),
      sync: () => sync('sync'),
      stat: () => file.stat(),
      close: () => file.close(),
    }
  }

  /** The same for the database: the n-th batch fails, and nothing of it is stored. */
  records(store: KeyValue): KeyValue {
    const batch = (writes: readonly KeyValueWrite[]) =>
      // When a root was last used is lost without harm, and without a word.
      writes.every(({ key }) => key.startsWith('use/'))
        ? store.batch(writes)
        : this.#run('record', () => store.batch(writes))
    return {
      get: key => store.get(key),
      entries: range => store.entries(range),
      keys: range => store.keys(range),
      batch,
      put: (key, value) => batch([{ type: 'put', key, value }]),
      delete: key => batch([{ type: 'delete', key }]),
    }
  }
}
