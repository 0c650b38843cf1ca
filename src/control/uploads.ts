// Packages that come as tar archives in the body of a request: each is received into a private directory of its own
// below HOME/uploads, and published from there like any other. Nothing outlives its request, or a killed daemon.
import { randomUUID } from 'node:crypto'
import { lstat, mkdir, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { manifestFileNames, manifestLimits } from '../assets/manifest.ts'
import { manifestFormatOf, parseManifest } from '../assets/parse-manifest.ts'
import { unpackArchive } from '../assets/unpack-archive.ts'
import { raceAbort } from '../base/deadline.ts'
import { CatalogError } from '../base/errors.ts'
import type { CallOptions } from '../base/lifecycle.ts'
import type { NodeApi, ProgressOptions, PublishRequest, PublishResult } from './api.ts'

export interface UploadsDeps {
  /** The node itself: what was received is published by its path here, whatever paths the caller may name. */
  readonly api: Pick<NodeApi, 'status' | 'publish'>
}

export interface UploadsOptions {
  readonly directory: string
  /** At once, all callers together. */
  readonly maxUploads: number
  /** How long the daemon waits for bytes, in all: this, and the time they take at the slowest rate. */
  readonly patienceMs: number
  readonly slowestBytesPerSecond: number
}

export const defaultUploadsOptions = {
  // Each reads, hashes and writes as fast as the disk: more of them at once are not faster.
  maxUploads: 4,
  patienceMs: 30_000,
  // A local socket carries a thousand times as much; what is slower keeps one of few places.
  slowestBytesPerSecond: 64 * 1024,
}

/** Between two looks at the free space. */
const lookEveryBytes = 64 * 1024 * 1024

export interface Upload extends AsyncDisposable {
  /** A package directory. */
  readonly path: string
  /** What its manifest names it; several, or none, for what is no package. */
  names(): Promise<string[]>
}

export class Uploads {
  readonly #deps: UploadsDeps
  readonly #options: UploadsOptions
  #running = 0

  constructor(deps: UploadsDeps, options: UploadsOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Takes away what a killed daemon left. */
  async start(): Promise<void> {
    await rm(this.#options.directory, { recursive: true, force: true })
    await mkdir(this.#options.directory, { mode: 0o700 })
  }

  async stop(): Promise<void> {
    await rm(this.#options.directory, { recursive: true, force: true })
  }

  /** @throws CatalogError `busy`, `no-space`, `quota-exceeded`, `timeout`, `too-large`, `invalid-package` */
  async receive(body: IncomingMessage, options: CallOptions): Promise<Upload> {
    if (this.#running >= this.#options.maxUploads)
      throw new CatalogError(
        'busy',
        `The node is receiving ${this.#running} packages already. Try again when one is done.`,
      )
    this.#running++
    const path = join(this.#options.directory, randomUUID())
    const dispose = async () => {
      this.#running--
      await rm(path, { recursive: true, force: true })
    }
    try {
      await mkdir(path, { mode: 0o700 })
      const { freeBytes, storage } = await this.#deps.api.status()
      const maxBytes = Math.min(freeBytes, storage.quotaBytes ?? freeBytes)
      await unpackArchive(this.#bytesOf(body, options), path, { ...options, maxBytes })
    } catch (error) {
      await dispose()
      throw error
    }
    return { path, names: () => namesOf(path), [Symbol.asyncDispose]: dispose }
  }

  /** @throws as `publish`, in words about the archive */
  async publish(
    { path }: Upload,
    request: Omit<PublishRequest, 'path'>,
    options: ProgressOptions,
  ): Promise<PublishResult> {
    try {
      return await this.#deps.api.publish({ path, ...request }, options)
    } catch (error) {
      throw error instanceof CatalogError ? withoutPath(error, path) : error
    }
  }

  /** The body as it comes, within its time and the space; the request itself is left open for the answer. */
  async *#bytesOf(body: IncomingMessage, options: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const { patienceMs, slowestBytesPerSecond } = this.#options
    const chunks = body.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]()
    let bytes = 0
    let waitedMs = 0
    let looked = 0
    for (;;) {
      const started = performance.now()
      const patience = patienceMs + (bytes / slowestBytesPerSecond) * 1000 - waitedMs
      const { done, value } = await within(raceAbort(chunks.next(), options.signal), patience)
      if (done === true) return
      waitedMs += performance.now() - started
      bytes += (value as Buffer).byteLength
      if (bytes - looked > lookEveryBytes) {
        looked = bytes
        // What was received is stored a second time when it is published.
        const { freeBytes } = await this.#deps.api.status()
        if (freeBytes < bytes) throw noRoom(bytes)
      }
      yield value as Buffer
    }
  }
}

/** Where an archive was received is of no use to who sent it, and not theirs to know. */
function withoutPath({ code, message, data, cause }: CatalogError, path: string): CatalogError {
  const hide = (text: string) => text.replaceAll(`${path}/`, '').replaceAll(path, 'The archive')
  const hidden = Object.entries(data).map(([key, value]) => [
    key,
    typeof value === 'string' ? hide(value) : value,
  ])
  return new CatalogError(code, hide(message), Object.fromEntries(hidden), cause)
}

const noRoom = (bytes: number) =>
  new CatalogError(
    'no-space',
    `The package has more than ${bytes} bytes, and there is no room here to publish as much. Ask the owner of the node to free some.`,
  )

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () =>
      late.reject(
        new CatalogError('timeout', 'The archive came too slowly, and was given up. Send it again.'),
      ),
    ms,
  )
  work.catch(() => undefined)
  return Promise.race([work, late.promise]).finally(() => clearTimeout(timer))
}

async function namesOf(directory: string): Promise<string[]> {
  const names: string[] = []
  for (const file of manifestFileNames) {
    const path = join(directory, file)
    const status = await lstat(path).catch(() => undefined)
    if (status?.isFile() !== true || status.size > manifestLimits.maxBytes) continue
    const { manifest } = parseManifest(await readFile(path), manifestFormatOf(file) ?? 'yaml')
    if (manifest !== undefined) names.push(manifest.metadata.name)
  }
  return names
}
