import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import type { ExecutionEvent, Progress } from '../../src/control/api.ts'
import { ControlClient } from '../../src/control/client.ts'
import { parseRange } from '../../src/control/range.ts'
import { createControlServer } from '../../src/control/server.ts'
import { temporaryDirectory } from '../temporary.ts'
import { MemoryNode, memoryTokens } from './memory-node.ts'

const exec = promisify(execFile)

let home: string
let socketPath: string
let node: MemoryNode
let server: ReturnType<typeof createControlServer>
let client: ControlClient

beforeEach(async () => {
  home = temporaryDirectory('catalog-control-')
  socketPath = join(home, 'control.sock')
  node = new MemoryNode()
  server = serve()
  await server.start()
  client = new ControlClient({ socketPath })
})
afterEach(() => server.stop())

const serve = (options = {}) =>
  createControlServer(
    { api: node, tokens: memoryTokens(), log: silentLog },
    { socketPath, uploadDirectory: join(home, 'uploads'), ...options },
  )

const packageOf = (files: Record<string, string | Uint8Array>, name = 'word-count') =>
  node.add(name, '1.2.0', new Map(Object.entries(files).map(([path, bytes]) => [path, Buffer.from(bytes)])))

/** One plain request; the answer's status, headers and body. */
// biome-ignore lint/suspicious/noExplicitAny: the tests look into answers of every shape
type Json = any

function call(method: string, path: string, body?: string | Buffer, headers: Record<string, string> = {}) {
  return new Promise<{ status: number; headers: Record<string, unknown>; body: Buffer; json: Json }>(
    (resolve, reject) => {
      const request = httpRequest({ socketPath, method, path, agent: false, headers }, async response => {
        const body = Buffer.concat(await response.toArray())
        const json =
          String(response.headers['content-type']).startsWith('application/json') && body.length > 0
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body,
          json: json ? JSON.parse(body.toString()) : undefined,
        })
      })
      request.on('error', reject)
      request.end(body)
    },
  )
}

const stillAnswers = async () => expect((await client.status()).peerId).toBe('12D3KooWMemory')

describe('the control socket', () => {
  it('is open to its owner alone', () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600)
  })

  it('is not made in a directory that others can enter', async () => {
    const open = temporaryDirectory('catalog-open-')
    chmodSync(open, 0o755)
    const second = createControlServer(
      { api: node, tokens: memoryTokens(), log: silentLog },
      { socketPath: join(open, 'control.sock'), uploadDirectory: join(open, 'uploads') },
    )
    await expect(second.start()).rejects.toMatchObject({ code: 'home-not-owned' })
  })

  it('of a running daemon is respected, a stale one replaced, any other file left alone', async () => {
    await expect(serve().start()).rejects.toMatchObject({ code: 'already-running' })
    await server.stop()
    // A socket that a killed process left: bound, then closed without unlinking.
    const script = `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`
    await exec(process.execPath, ['-e', script]).catch(() => undefined)
    expect(statSync(socketPath).isSocket()).toBe(true)
    server = serve()
    await server.start()
    await stillAnswers()
    await server.stop()
    writeFileSync(socketPath, 'precious')
    await expect(serve().start()).rejects.toMatchObject({ code: 'output-exists' })
  })

  it('answers curl with a line of JSON, bodies without a content type too', async () => {
    const { stdout } = await exec('curl', ['-sS', '--unix-socket', socketPath, 'http://catalog/v1/status'])
    expect(JSON.parse(stdout)).toMatchObject({ peerId: '12D3KooWMemory' })
    expect(stdout.endsWith('\n')).toBe(true)
    const body = '{"refs":["nothing"]}'
    const fetched = await exec('curl', [
      '-sS',
      '--unix-socket',
      socketPath,
      'http://catalog/v1/fetch',
      '-d',
      body,
    ])
    const lines = fetched.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    expect(lines.at(-1).result.results).toEqual([
      { ref: 'nothing', error: expect.objectContaining({ code: 'not-found' }) },
    ])
  })

  it('describes itself as OpenAPI, each call with its answers', async () => {
    const { json } = await call('GET', '/v1/openapi.json')
    expect(json.openapi).toBe('3.1.0')
    expect(Object.keys(json.paths).sort()).toEqual([
      '/v1/announcements',
      '/v1/check',
      '/v1/deprecate',
      '/v1/drain',
      '/v1/equivocations',
      '/v1/execute',
      '/v1/executions',
      '/v1/executions/{id}',
      '/v1/executions/{id}/archive',
      '/v1/executions/{id}/cancel',
      '/v1/executions/{id}/content',
      '/v1/executions/{id}/index',
      '/v1/executions/{id}/logs',
      '/v1/executions/{id}/result',
      '/v1/fetch',
      '/v1/gc',
      '/v1/peers',
      '/v1/pin',
      '/v1/publish',
      '/v1/releases',
      '/v1/releases/{id}/archive',
      '/v1/releases/{id}/content',
      '/v1/releases/{id}/files/{path}',
      '/v1/releases/{id}/index',
      '/v1/releases/{ref}',
      '/v1/releases/{ref}/replicas',
      '/v1/search',
      '/v1/status',
      '/v1/tokens',
      '/v1/tokens/{id}',
      '/v1/trust',
      '/v1/trust/can',
      '/v1/trust/certificates',
      '/v1/trust/export',
      '/v1/trust/grants',
      '/v1/trust/invites',
      '/v1/trust/notices',
      '/v1/trust/revocations',
      '/v1/trust/root',
      '/v1/trust/rotations',
      '/v1/yank',
    ])
    const publish = json.paths['/v1/publish'].post
    expect(publish.requestBody.content['application/json'].schema).toMatchObject({
      required: ['path'],
      additionalProperties: false,
    })
    expect(publish.requestBody.content['application/x-tar'].schema).toEqual({
      type: 'string',
      format: 'binary',
    })
    expect(publish.description).toContain('publish')
    expect(
      json.paths['/v1/status'].get.responses['200'].content['application/json'].schema.properties,
    ).toHaveProperty('peerId')
    expect(json.paths['/v1/releases/{ref}'].delete.parameters).toMatchObject([
      { name: 'ref', in: 'path', required: true },
    ])
  })
})

describe('work', () => {
  it('streams its progress, then its result', async () => {
    const path = join(home, 'greeting')
    mkdirSync(path)
    writeFileSync(join(path, 'a'), 'hello')
    const progress: Progress[] = []
    const result = await client.publish({ path }, { onProgress: line => progress.push(line) })
    expect(result).toMatchObject({ name: 'greeting', version: '1.0.0', files: 1, size: 5, created: true })
    expect(progress.at(-1)).toEqual({ phase: 'store', done: 3, total: 3 })
  })

  it('that fails before its first line is a plain HTTP error', async () => {
    const { status, json } = await call('POST', '/v1/publish', '{"path":"/no/such/package"}')
    expect(status).toBe(404)
    expect(json).toEqual({
      error: {
        code: 'no-such-path',
        path: '/no/such/package',
        message: expect.stringContaining('/no/such/package'),
      },
    })
    await expect(client.publish({ path: '/no/such/package' })).rejects.toMatchObject({
      code: 'no-such-path',
      data: { path: '/no/such/package' },
    })
  })

  it('that fails unexpectedly shows no stack, neither before nor after the first line', async () => {
    node.publish = async (_request, { onProgress }) => {
      onProgress?.({ phase: 'store' })
      throw new TypeError('cannot read this')
    }
    const late = await call('POST', '/v1/publish', '{"path":"/x"}')
    expect(
      late.body
        .toString()
        .trim()
        .split('\n')
        .map(line => JSON.parse(line)),
    ).toEqual([
      { progress: { phase: 'store' } },
      { error: { code: 'internal', message: 'cannot read this' } },
    ])
    node.status = async () => {
      throw new TypeError('nor this')
    }
    const early = await call('GET', '/v1/status')
    expect([early.status, early.json]).toEqual([500, { error: { code: 'internal', message: 'nor this' } }])
  })

  it('ends when its client leaves', async () => {
    packageOf({ a: 'hello' })
    node.delayMs = 60_000
    const leaving = new AbortController()
    const work = client.fetch(
      { refs: ['word-count'] },
      { signal: leaving.signal, onProgress: () => leaving.abort(new Error('enough')) },
    )
    await expect(work).rejects.toThrow('enough')
    await vi.waitFor(() => expect(node.signals[0]?.aborted).toBe(true))
    expect(node.signals[0]?.reason).toMatchObject({ code: 'cancelled' })
  })

  it('does not reach a caller whose daemon stops as a success', async () => {
    packageOf({ a: 'hello' })
    node.delayMs = 60_000
    const work = client.fetch({ refs: ['word-count'] })
    work.catch(() => undefined)
    await vi.waitFor(() => expect(node.signals).toHaveLength(1))
    const start = performance.now()
    await server.stop()
    expect(performance.now() - start).toBeLessThan(2_000)
    await expect(work).rejects.toMatchObject({ code: 'daemon-stopping' })
    await expect(client.status()).rejects.toMatchObject({
      code: 'daemon-not-running',
      message: expect.stringContaining('catalog daemon'),
    })
    await server.stop()
  })

  it('of a client that reads nothing holds no more than the socket does', async () => {
    packageOf({ a: 'hello' })
    node.progressLines = 0
    let offered = 0
    node.fetch = async (_request, { onProgress }) => {
      for (; offered < 200_000; offered++)
        onProgress?.({ phase: `transfer-${offered}`, message: 'x'.repeat(1000) })
      return []
    }
    const before = process.memoryUsage().rss
    const socket = connect(socketPath)
    socket.pause()
    const body = '{"refs":["word-count"]}'
    socket.write(`POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    await vi.waitFor(() => expect(offered).toBe(200_000), 20_000)
    // 200 MB of progress was offered.
    expect(process.memoryUsage().rss - before).toBeLessThan(120 * 1024 * 1024)
    socket.destroy()
    await stillAnswers()
  })
})

describe('an execution', () => {
  it('streams its output and ends with its record', async () => {
    packageOf({ a: 'hello' })
    const events: ExecutionEvent[] = []
    const view = await client.execute(
      { ref: 'word-count', on: 'auto', args: ['exit', '7'], env: { MODE: 'plain' }, inputBase64: 'aGk=' },
      { onEvent: event => events.push(event) },
    )
    expect(view).toMatchObject({ state: 'failed', exitCode: 7, stdout: 'exit 7\nMODE=plain\nhi' })
    expect(events[0]).toEqual({ id: view.id, state: 'running', peer: '12D3KooWMemory' })
    expect(events).toContainEqual({ stream: 'stderr', base64: Buffer.from('to stderr\n').toString('base64') })
  })

  it('is cancelled when its client leaves, and goes on when it is detached', async () => {
    packageOf({ a: 'hello' })
    const leaving = new AbortController()
    const request = { ref: 'word-count', on: 'auto', args: ['sleep'], env: {} }
    const waited = client.execute(request, { signal: leaving.signal, onEvent: () => leaving.abort() })
    await expect(waited).rejects.toMatchObject({ name: 'AbortError' })
    await vi.waitFor(async () => expect((await client.execution('run-1')).state).toBe('cancelled'))

    const detached = await call('POST', '/v1/execute', JSON.stringify({ ...request, detach: true }))
    expect([detached.status, detached.json]).toEqual([202, { id: 'run-2' }])
    await sleep(100)
    expect((await client.execution('run-2')).state).toBe('running')
    expect((await client.cancel('run-2')).state).toBe('cancelled')
    expect((await client.executions()).map(view => view.state)).toEqual(['cancelled', 'cancelled'])
  })

  it('takes 16 MiB of input, and no more', async () => {
    packageOf({ a: 'hello' })
    const input = randomBytes(12 * 1024 * 1024).toString('base64')
    const view = await client.execute({
      ref: 'word-count',
      on: 'auto',
      args: ['exit', '0'],
      env: {},
      inputBase64: input,
    })
    expect(view.state).toBe('succeeded')
    const more = Buffer.alloc(17 * 1024 * 1024).toString('base64')
    await expect(
      client.execute({ ref: 'word-count', on: 'auto', args: [], env: {}, inputBase64: more }),
    ).rejects.toMatchObject({ code: 'invalid-request' })
  })

  it('is read again by its logs, bytes and all', async () => {
    packageOf({ a: 'hello' })
    await client.execute({ ref: 'word-count', on: 'auto', args: ['binary'], env: {} })
    for (const follow of [false, true]) {
      const pieces = await collect(client.logs('run-1', { follow }))
      const stdout = Buffer.concat(
        pieces.filter(piece => piece.stream === 'stdout').map(piece => piece.bytes),
      )
      expect([...stdout]).toEqual([0xff, 0xfe, 0x00])
    }
    await expect(collect(client.logs('run-9'))).rejects.toMatchObject({ code: 'no-such-execution' })
    await expect(client.result('run-9', { out: '/tmp/x' })).rejects.toMatchObject({
      code: 'no-such-execution',
    })
    expect(await client.result('run-1', { out: '/tmp/x' })).toMatchObject({ id: 'run-1', out: '/tmp/x' })
  })
})

describe('a file of a release', () => {
  const bytes = randomBytes(300_000)
  let url: string
  beforeEach(() => {
    const { id } = packageOf({ 'src/dir with space/ä%.bin': bytes, empty: '' })
    url = `/v1/releases/${id}/files`
  })
  const file = () => `${url}/src/dir%20with%20space/${encodeURIComponent('ä%.bin')}`

  it('comes whole', async () => {
    const answer = await call('GET', file())
    expect(answer.status).toBe(200)
    expect(answer.body.equals(bytes)).toBe(true)
    expect(answer.headers).toMatchObject({
      'accept-ranges': 'bytes',
      'catalog-mode': '0644',
      'content-length': '300000',
    })
    expect((await call('GET', `${url}/empty`)).body).toHaveLength(0)
    const head = await call('HEAD', file())
    expect([head.status, head.headers['content-length'], head.body.length]).toEqual([200, '300000', 0])
  })

  it('comes by range as HTTP gives it', async () => {
    const { id } = node.find('word-count')
    for (const [range, first, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=100-70000', 100, 70_001],
      ['bytes=299999-', 299_999, 300_000],
      ['bytes=5-999999999', 5, 300_000],
      ['bytes=-10', 299_990, 300_000],
    ] as const) {
      const answer = await call('GET', file(), undefined, { range })
      expect([answer.status, answer.headers['content-range']]).toEqual([
        206,
        `bytes ${first}-${end - 1}/300000`,
      ])
      expect(answer.body.equals(bytes.subarray(first, end))).toBe(true)
    }
    const part = client.file(id, 'src/dir with space/ä%.bin', { range: { first: 7, last: 9 } })
    expect(Buffer.concat(await collect(part))).toEqual(bytes.subarray(7, 10))
  })

  it.each([
    'bytes=300000-',
    'bytes=5-4',
    'bytes=-',
    'bytes=a-b',
    'bytes=0-1,5-6',
    'lines=0-1',
    'bytes=-0',
    'bytes=99999999999999999-',
  ])('is refused for the range %s', async range => {
    const answer = await call('GET', file(), undefined, { range })
    expect([answer.status, answer.json.error.code]).toEqual([416, 'invalid-range'])
    expect(answer.headers['content-range']).toBe('bytes */300000')
  })

  it('that is not there is an error', async () => {
    expect((await call('GET', `${url}/absent`)).json.error.code).toBe('no-such-file')
    expect((await call('GET', `${url}/%ZZ`)).json.error.code).toBe('invalid-request')
  })

  it('a range is never more than the file, and always what was asked', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(1200), fc.nat(1200), (size, a, b) => {
        let range: ReturnType<typeof parseRange>
        try {
          range = parseRange(`bytes=${a}-${b}`, size)
        } catch {
          expect(a > b || a >= size).toBe(true)
          return
        }
        expect(range).toEqual({ offset: a, length: Math.min(b, size - 1) - a + 1 })
      }),
    )
  })
})

describe('abuse', () => {
  it.each([
    ['POST', '/v1/publish', '{"path":"relative/path"}', 'path: must be an absolute path'],
    ['POST', '/v1/publish', '{"path":"/x\\u0000y"}', 'path: must be an absolute path'],
    ['POST', '/v1/publish', '{"path":"/x","extra":1}', 'extra'],
    ['POST', '/v1/publish', '{"__proto__":{"path":"/x"},"path":"/x"}', '__proto__'],
    ['POST', '/v1/publish', '{"path":5}', 'path'],
    ['POST', '/v1/publish', '', 'expected object'],
    ['POST', '/v1/publish', '[]', 'expected object'],
    ['POST', '/v1/publish', '{"path":', 'not JSON'],
    ['POST', '/v1/fetch', '{"refs":[]}', 'refs'],
    ['POST', '/v1/fetch', '{"refs":["a"],"out":"./a"}', 'out: must be an absolute path'],
    ['POST', '/v1/execute', '{"ref":"a","env":{"A=B":"c"}}', 'env'],
    ['POST', '/v1/execute', '{"ref":"a","inputBase64":"%%%%"}', 'inputBase64: is not base64'],
    ['POST', '/v1/execute', '{"ref":"a","timeoutSeconds":-1}', 'timeoutSeconds'],
    ['POST', '/v1/executions/run-1/result', '{"out":"here"}', 'out: must be an absolute path'],
    ['POST', '/v1/executions/run-1/cancel', '{"now":true}', 'no body'],
    ['GET', '/v1/status?verbose=1', undefined, 'verbose'],
    ['GET', '/v1/search?q=a&q=b', undefined, 'q'],
    ['GET', '/v1/search?limit=0', undefined, 'limit'],
    ['GET', '/v1/executions/..%2F..%2Fkeys', undefined, 'no execution id'],
  ])('%s %s %s is refused', async (method, path, body, words) => {
    const { status, json } = await call(method, path, body, { 'content-type': 'application/json' })
    expect([status, json.error.code]).toEqual([400, 'invalid-request'])
    expect(json.error.message).toContain(words)
  })

  it('a call that does not exist is named', async () => {
    const { status, json } = await call('GET', '/v2/everything')
    expect([status, json.error.code]).toEqual([404, 'not-found'])
  })

  it('a body that is too large is refused before it is read', async () => {
    const socket = connect(socketPath)
    socket.write(`POST /v1/publish HTTP/1.1\r\nhost: x\r\ncontent-length: ${1e12}\r\n\r\n{`)
    const answer = String((await socket.take(1).toArray())[0])
    expect(answer).toContain('413')
    expect(answer).toContain('"too-large"')
    socket.destroy()
    // Without a length it is cut off at the limit.
    const chunked = await call('POST', '/v1/publish', Buffer.alloc(3_000_000, ' '), {
      'transfer-encoding': 'chunked',
    }).catch(error => error.code)
    expect(typeof chunked === 'string' ? ['EPIPE', 'ECONNRESET'] : [413]).toContain(
      typeof chunked === 'string' ? chunked : chunked.status,
    )
    await stillAnswers()
  })

  it('a body that is nested too deeply is refused before it is parsed', async () => {
    for (const open of ['[', '{"a":']) {
      const { json } = await call('POST', '/v1/publish', open.repeat(100_000))
      expect(json.error).toMatchObject({
        code: 'invalid-request',
        message: expect.stringContaining('nested'),
      })
    }
    const inText = await call('POST', '/v1/publish', JSON.stringify({ path: `/${'[{"'.repeat(40)}` }))
    expect(inText.json.error.code).toBe('no-such-path')
  })

  it('whatever bytes arrive, the daemon goes on', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 2000 }),
        fc.boolean(),
        async (bytes, plausible) => {
          const socket = connect(socketPath)
          socket.on('error', () => undefined)
          if (plausible) socket.write('POST /v1/execute HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n')
          socket.end(bytes)
          socket.resume()
          await new Promise(resolve => socket.once('close', resolve))
        },
      ),
      { numRuns: 50 },
    )
    await stillAnswers()
  })

  it('headers without end are refused', async () => {
    const socket = connect(socketPath)
    socket.on('error', () => undefined)
    socket.write(`GET /v1/status HTTP/1.1\r\n${`x-filler: ${'y'.repeat(1000)}\r\n`.repeat(100)}`)
    const answer = Buffer.concat(await socket.toArray().catch(() => [])).toString()
    expect(answer === '' || answer.includes('431')).toBe(true)
    await stillAnswers()
  })

  it('slow clients are cut off, many are bounded, and others are served', async () => {
    await server.stop()
    server = serve({ maxConnections: 40, headersTimeoutMs: 500, requestTimeoutMs: 1_000 })
    await server.start()
    const slow = Array.from({ length: 30 }, (_, index) => {
      const socket = connect(socketPath)
      // Silent ones, half a header, half a body.
      if (index % 3 === 1) socket.write('GET /v1/sta')
      if (index % 3 === 2) socket.write('POST /v1/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{')
      return closed(socket)
    })
    await stillAnswers()
    const many = Array.from({ length: 100 }, () => closed(connect(socketPath)))
    const start = performance.now()
    await Promise.all([...slow, ...many])
    expect(performance.now() - start).toBeLessThan(5_000)
    await stillAnswers()
  })

  it('another user cannot open it', async context => {
    if (process.getuid?.() !== 0) return context.skip('only root can become another user')
    const script = `process.setuid(12345); require('node:net').connect(${JSON.stringify(socketPath)}).on('error', e => console.log(e.code)).on('connect', () => { console.log('open'); process.exit() })`
    expect((await exec(process.execPath, ['-e', script])).stdout.trim()).toBe('EACCES')
    // The control: without the directory and the socket closed, the same program gets in.
    chmodSync(home, 0o755)
    chmodSync(socketPath, 0o666)
    expect((await exec(process.execPath, ['-e', script])).stdout.trim()).toBe('open')
  })
})

describe('the client', () => {
  it('says what is wrong when no daemon answers', async () => {
    const absent = new ControlClient({ socketPath: join(home, 'absent.sock') })
    await expect(absent.status()).rejects.toMatchObject({ code: 'daemon-not-running' })
  })

  it('does not take half an answer for one', async () => {
    const path = join(home, 'half.sock')
    const half = createServer(socket => {
      socket.once('data', () => {
        socket.write(
          'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n16\r\n{"progress":{"phase":"\r\n',
        )
        setTimeout(() => socket.destroy(), 50)
      })
    })
    await new Promise<void>(resolve => half.listen(path, resolve))
    const cut = new ControlClient({ socketPath: path })
    await expect(cut.publish({ path: '/x' })).rejects.toMatchObject({ code: 'daemon-stopping' })
    await new Promise(resolve => half.close(resolve))
  })

  it('reads releases, searches and peers', async () => {
    const { id } = packageOf({ a: 'x' }, 'acme/x')
    expect((await client.show('acme/x@1.2.0')).id).toBe(id)
    expect((await client.releases(true)).map(release => release.id)).toEqual([id])
    expect(await client.search({ query: 'acme', limit: 5 })).toHaveLength(1)
    expect(await client.peers()).toHaveLength(1)
    expect((await client.announcements()).announced).toBe(5)
    expect(await client.remove(id)).toMatchObject({ id, bytesFreed: 1 })
    await expect(client.show('acme/x')).rejects.toMatchObject({ code: 'not-found' })
  })

  it('takes a megabyte of output in one line', async () => {
    packageOf({ a: 'x' })
    const view = await client.execute({ ref: 'word-count', on: 'auto', args: ['flood', '1000000'], env: {} })
    expect(view.stdout).toHaveLength(1_000_000)
  })
})

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

const closed = (socket: Socket) =>
  new Promise(resolve => {
    socket.on('error', () => undefined)
    socket.once('close', resolve)
    socket.resume()
  })
