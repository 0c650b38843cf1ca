// The bytes of a record key, as every node of a network writes them in the DHT:
//
//   release  /catalog-release/<release id>           the id in CID text form
//   head     /catalog-head/<publisher>/<name>        the name may be scoped: acme/word-count
//   notice   /catalog-trust/root/<version>           six digits
//            /catalog-trust/revocations/<issuer>     fingerprint of the authority's certificate
//
// UTF-8, at most 400 bytes, no other form of the same key: what does not read back to the same bytes is no key.
import { isPackageName } from '../assets/name.ts'
import { isCid } from '../base/cid.ts'
import type { RecordKey } from './router.ts'

export const releaseNamespace = 'catalog-release'
export const headNamespace = 'catalog-head'
export const trustNamespace = 'catalog-trust'
const maxKeyBytes = 400

export function recordKeyText(key: RecordKey): string {
  if (key.kind === 'release') return `/${releaseNamespace}/${key.id}`
  if (key.kind === 'notice') return `/${trustNamespace}/${key.notice}`
  return `/${headNamespace}/${key.publisher}/${key.name}`
}

export const recordKeyBytes = (key: RecordKey): Uint8Array => new TextEncoder().encode(recordKeyText(key))

/** The key in the bytes; undefined when they are not one. */
export function parseRecordKey(bytes: Uint8Array): RecordKey | undefined {
  if (bytes.byteLength > maxKeyBytes) return undefined
  const text = decodeUtf8(bytes)
  return text === undefined ? undefined : parseRecordKeyText(text)
}

export function parseRecordKeyText(text: string): RecordKey | undefined {
  const release = /^\/catalog-release\/(b[a-z2-7]+)$/.exec(text)
  if (release?.[1] !== undefined) return isCid(release[1]) ? { kind: 'release', id: release[1] } : undefined
  const notice = /^\/catalog-trust\/(root\/\d{6}|revocations\/b[a-z2-7]{55})$/.exec(text)
  if (notice?.[1] !== undefined) return { kind: 'notice', notice: notice[1] }
  const head = /^\/catalog-head\/([A-Za-z0-9_-]{1,120})\/([a-z0-9/-]+)$/.exec(text)
  if (head?.[1] === undefined || head[2] === undefined || !isPackageName(head[2])) return undefined
  return { kind: 'head', publisher: head[1], name: head[2] }
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}
