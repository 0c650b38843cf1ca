// The thread that hashes a package's stream while the main one cuts it. Started by digest-thread.ts, which owns the
// conversation: requests are answered in order, one reply each.
import { parentPort, workerData } from 'node:worker_threads'
import { type Digests, StreamHashes } from './digests.ts'

export interface DigestWorkerData {
  /** The blocks that the requests point into. */
  readonly memory: SharedArrayBuffer
}

export type DigestRequest =
  | { readonly type: 'update'; readonly at: number; readonly length: number; readonly large: boolean }
  | { readonly type: 'file' | 'stream' }

/** Undefined once an update's bytes are no longer used. */
export type DigestReply = Digests | undefined

const { memory } = workerData as DigestWorkerData
const hashes = new StreamHashes()

function perform(request: DigestRequest): DigestReply {
  if (request.type !== 'update') return request.type === 'file' ? hashes.file() : hashes.stream()
  hashes.update(new Uint8Array(memory, request.at, request.length), request.large)
  return undefined
}

parentPort?.on('message', (request: DigestRequest) => parentPort?.postMessage(perform(request)))
