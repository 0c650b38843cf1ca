// Digests of a package's stream made in a worker, for packages where that pays for starting one. The worker lives as
// long as the pack: it reads the blocks in place, and each is held until it has.
import { Worker } from 'node:worker_threads'
import { CatalogError } from '../../base/errors.ts'
import type { DigestReply, DigestRequest, DigestWorkerData } from './digest-worker.ts'
import type { Digester, Digests } from './digests.ts'
import type { Slice } from './stream.ts'

/** The same folder and extension as this file: sources run unbuilt, `dist` runs compiled. */
const workerUrl = new URL(
  import.meta.url.endsWith('.ts') ? './digest-worker.ts' : './digest-worker.js',
  import.meta.url,
)

interface Waiting {
  readonly resolve: (reply: DigestReply) => void
  readonly reject: (error: Error) => void
}

export class DigestThread implements Digester {
  readonly #worker: Worker
  readonly #waiting: Waiting[] = []
  #failure: Error | undefined

  constructor(memory: SharedArrayBuffer) {
    const data: DigestWorkerData = { memory }
    this.#worker = new Worker(workerUrl, { workerData: data, env: {}, argv: [], name: 'catalog-digest' })
    this.#worker.on('message', (reply: DigestReply) => this.#waiting.shift()?.resolve(reply))
    this.#worker.on('error', error => this.#lost(error))
    this.#worker.on('exit', code => this.#lost(new Error(`exit code ${code}`)))
  }

  update({ block, bytes, large }: Slice): void {
    block.hold()
    this.#ask({
      type: 'update',
      at: bytes.byteOffset,
      length: bytes.byteLength,
      large: large !== undefined,
    }).then(
      () => block.release(),
      // Told by the digests, which fail too.
      () => block.release(),
    )
  }

  async file(): Promise<Digests> {
    return (await this.#ask({ type: 'file' })) as Digests
  }

  async stream(): Promise<Digests> {
    return (await this.#ask({ type: 'stream' })) as Digests
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #ask(request: DigestRequest): Promise<DigestReply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#worker.postMessage(request)
    })
  }

  #lost(cause: Error): void {
    this.#failure ??= new CatalogError(
      'internal',
      `The thread that hashes the package died (${cause.message}). Publish again.`,
      {},
      cause,
    )
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure)
  }
}
