// The thread that does slow signature work: key generation, Falcon signing, checks in bulk.
// Started by crypto-thread.ts, which owns the conversation: one request in, one reply out, by number.
import { parentPort } from 'node:worker_threads'
import { ed25519 } from './ed25519-scheme.ts'
import { falcon } from './falcon-scheme.ts'
import { faultySignature, type SignatureCheck } from './signature-check.ts'
import type { KeyPair, SignatureAlgorithm } from './signature-scheme.ts'

export type CryptoRequest =
  | { readonly type: 'generate' }
  | { readonly type: 'falcon-sign'; readonly message: Uint8Array; readonly secretKey: Uint8Array }
  | { readonly type: 'check'; readonly checks: readonly SignatureCheck[] }

export interface CryptoReplies {
  readonly generate: { readonly ed25519: KeyPair; readonly falcon: KeyPair }
  readonly 'falcon-sign': Uint8Array
  /** In the order of the checks. */
  readonly check: readonly (SignatureAlgorithm | undefined)[]
}

export interface CryptoCall {
  readonly call: number
  readonly request: CryptoRequest
}

export interface CryptoReply {
  readonly call: number
  readonly value?: CryptoReplies[keyof CryptoReplies]
  readonly error?: string
}

function perform(request: CryptoRequest): CryptoReplies[keyof CryptoReplies] {
  switch (request.type) {
    case 'generate':
      return { ed25519: ed25519.generate(), falcon: falcon.generate() }
    case 'falcon-sign':
      try {
        return falcon.sign(request.message, request.secretKey)
      } finally {
        request.secretKey.fill(0)
      }
    case 'check':
      return request.checks.map(faultySignature)
  }
}

parentPort?.on('message', ({ call, request }: CryptoCall) => {
  let reply: CryptoReply
  try {
    reply = { call, value: perform(request) }
  } catch (error) {
    reply = { call, error: error instanceof Error ? error.message : String(error) }
  }
  parentPort?.postMessage(reply)
})
