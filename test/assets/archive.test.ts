import { spawn } from 'node:child_process'
import { chmodSync, linkSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contentIndexLimits } from '../../src/assets/content-index.ts'
import { type ArchiveEntry, packArchive, partsOf } from '../../src/assets/pack-archive.ts'
import { unpackArchive } from '../../src/assets/unpack-archive.ts'
import { sha256 } from '../../src/base/hash.ts'
import { listTree } from '../daemon/harness.ts'
import { temporaryDirectory } from '../temporary.ts'

const manyBytes = 1e9

type Files = readonly (ArchiveEntry & { readonly text?: string })[]

async function* textOf(file: Files[number]): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(file.text ?? '')
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000)
}

const file = (path: string, text: string, mode = 0o644) => ({
  kind: 'file' as const,
  path,
  mode,
  size: Buffer.byteLength(text),
  text,
})

async function archiveOf(entries: Files): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of packArchive(entries, textOf)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** One header block as tar writes it, whatever stands in it; `over` is put over the bytes from 0, 124 and so on. */
function header(name: string, fields: Readonly<Record<number, string | Buffer>> = {}): Buffer {
  const block = Buffer.alloc(512)
  const all = { 0: name, 100: '0000644', 124: '00000000000', 156: '0', 257: 'ustar\0' + '00', ...fields }
  for (const [at, value] of Object.entries(all)) Buffer.from(value as string).copy(block, Number(at))
  block.fill(' ', 148, 156)
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  )
  return block
}

const end = Buffer.alloc(1024)

async function refusal(source: AsyncIterable<Uint8Array> | readonly Buffer[], maxBytes = manyBytes) {
  const directory = temporaryDirectory('catalog-unpack-')
  const stream = Array.isArray(source) ? Readable.from(source as Buffer[]) : source
  try {
    await unpackArchive(stream as AsyncIterable<Uint8Array>, directory, { maxBytes })
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return { code, message, written: readdirSync(directory, { recursive: true }).length }
  }
  throw new Error('it was taken')
}

describe('an archive', () => {
  it('is what tar reads: names, modes, links, empty directories, however long', async () => {
    const long = `${'d'.repeat(90)}/${'n'.repeat(120)}`
    const archive = await archiveOf([
      file('a', 'hello'),
      file('closed', '', 0),
      file('run', '#!', 0o755),
      { kind: 'directory', path: 'empty/é' },
      file(long, 'x'.repeat(5000)),
      { kind: 'link', path: 'link', target: `${'d'.repeat(90)}/${'n'.repeat(120)}` },
      file('näme', 'y'),
    ])
    const out = temporaryDirectory('catalog-tar-')
    const tar = spawn('tar', ['-C', out, '-xpf', '-'], { stdio: ['pipe', 'ignore', 'inherit'] })
    tar.stdin.end(archive)
    expect(await new Promise(resolve => tar.once('close', resolve))).toBe(0)
    const tree = await listTree(out)
    expect(tree.filter(line => !line.startsWith('file'))).toEqual([
      `directory ${'d'.repeat(90)}`,
      'directory empty',
      'directory empty/é',
      `link link -> ${long}`,
    ])
    expect(tree.filter(line => line.startsWith('file')).map(line => line.split(' ').slice(1, 3))).toEqual([
      ['0', 'closed'],
      ['644', 'a'],
      ['644', long],
      ['644', 'näme'],
      ['755', 'run'],
    ])
  })

  it('of the same entries is the same, byte for byte', async () => {
    const digest = Buffer.from(sha256(await archiveOf([file('a', 'hello')]))).toString('hex')
    expect(digest).toBe('d61c6719eaf56fff9ef5d1b439c72f19b9f9708cf118a24d8721e5f0501ef657')
  })

  it('of a file that changed meanwhile is refused', async () => {
    for (const size of [4, 6])
      await expect(archiveOf([{ ...file('a', 'hello'), size }])).rejects.toMatchObject({
        code: 'invalid-package',
      })
  })

  it('gives back what went in', async () => {
    const name = fc.stringMatching(/^[a-zé_]{1,40}$/)
    const path = fc.array(name, { minLength: 1, maxLength: 6 }).map(names => names.join('/'))
    const tree = fc.uniqueArray(fc.record({ path, text: fc.string({ maxLength: 3000 }) }), {
      selector: entry => entry.path,
      maxLength: 12,
    })
    await fc.assert(
      fc.asyncProperty(tree, async entries => {
        const paths = entries.map(entry => entry.path)
        fc.pre(!paths.some(one => paths.some(other => other.startsWith(`${one}/`))))
        const out = temporaryDirectory('catalog-unpack-')
        const archive = await archiveOf(entries.map(entry => file(entry.path, entry.text, 0o640)))
        await unpackArchive(Readable.from(inPieces(archive)), out, { maxBytes: manyBytes })
        const direct = temporaryDirectory('catalog-direct-')
        for (const { path, text } of entries) {
          mkdirSync(join(direct, path, '..'), { recursive: true })
          writeFileSync(join(direct, path), text)
          chmodSync(join(direct, path), 0o640)
        }
        expect(await listTree(out)).toEqual(await listTree(direct))
      }),
      { numRuns: 40 },
    )
  })

  it.each(['pax', 'gnu', 'ustar'])('that tar wrote in its %s format is taken', async format => {
    const from = temporaryDirectory('catalog-from-')
    mkdirSync(join(from, 'src/empty'), { recursive: true })
    writeFileSync(join(from, 'src/big'), Buffer.alloc(3_000_001, 'b'))
    linkSync(join(from, 'src/big'), join(from, 'src/hard'))
    symlinkSync('src/big', join(from, 'link'))
    writeFileSync(join(from, 'n'.repeat(format === 'ustar' ? 90 : 150)), 'long', { mode: 0o755 })
    const tar = spawn('tar', ['-C', from, `--format=${format}`, '-cf', '-', '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const out = temporaryDirectory('catalog-unpack-')
    await unpackArchive(tar.stdout, out, { maxBytes: manyBytes })
    expect(await listTree(out)).toEqual(await listTree(from))
  })

  it('hands out the parts of one stream', async () => {
    const parts = partsOf(Readable.from([Buffer.from('abc'), Buffer.from('defgh')]))
    const taken: string[] = []
    for (const bytes of [2, 0, 3, 3, 1]) {
      let text = ''
      for await (const part of parts.take(bytes)) text += Buffer.from(part)
      taken.push(text)
    }
    expect(taken).toEqual(['ab', '', 'cde', 'fgh', ''])
    await parts.close()
  })
})

/** Cut everywhere: a header may come in two chunks. */
function* inPieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 1500)
    yield bytes.subarray(at, at + size)
}

describe('a hostile archive is refused:', () => {
  it.each<[string, () => Files | Promise<Files>]>([
    ['a path that climbs', () => [file('../a', 'x')]],
    ['a path that climbs in the middle', () => [file('a/../../b', 'x')]],
    ['an absolute path', () => [file('/etc/passwd', 'x')]],
    ['a path without a name', () => [file('a//b', 'x')]],
    ['a path that is too deep', () => [file('a/'.repeat(150).concat('b'), 'x')]],
    ['a path that is too long', () => [file(`${'a/'.repeat(50)}${'n'.repeat(256)}`, 'x')]],
    ['the same path twice', () => [file('a', 'x'), file('a', 'y')]],
    ['the same path as ./ and without', () => [file('a', 'x'), file('./a', 'y')]],
    ['a file below a link', () => [{ kind: 'link', path: 'a', target: 'b' }, file('a/x', 'x')]],
    ['a link where a directory is', () => [file('a/x', 'x'), { kind: 'link', path: 'a', target: 'b' }]],
    [
      'a directory where a link is',
      () => [
        { kind: 'link', path: 'a', target: 'b' },
        { kind: 'directory', path: 'a' },
      ],
    ],
    ['a file below a file', () => [file('a', 'x'), file('a/x', 'x')]],
    ['a link out of the package', () => [{ kind: 'link', path: 'a/l', target: '../../b' }]],
    ['an absolute link', () => [{ kind: 'link', path: 'l', target: '/etc/passwd' }]],
    ['a set-user-id file', () => [file('a', 'x', 0o4755)]],
  ])('%s', async (_what, entries) => {
    const { code } = await refusal([await archiveOf(await entries())])
    expect(code).toBe('invalid-package')
  })

  it.each<[string, readonly Buffer[], string]>([
    ['a character device', [header('a', { 156: '3' }), end], 'a device'],
    ['a block device', [header('a', { 156: '4' }), end], 'a device'],
    ['a FIFO', [header('a', { 156: '6' }), end], 'a FIFO'],
    ['a GNU sparse file', [header('a', { 156: 'S' }), end], 'of a kind'],
    ['a hard link to nothing', [header('a', { 156: '1', 157: 'b' }), end], 'hard link'],
    ['a hard link outside', [header('a', { 156: '1', 157: '../b' }), end], '..'],
    ['a hard link to itself', [header('a', { 156: '1', 157: 'a' }), end], 'hard link'],
    [
      'a size beyond all bounds',
      [header('a', { 124: Buffer.from([0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]) }), end],
      '',
    ],
    [
      'a link with a body',
      [header('a', { 156: '2', 157: 'b', 124: '00000000005' }), Buffer.alloc(512), end],
      'its size',
    ],
    ['a name that is no UTF-8', [header('\xff', { 0: Buffer.from([0xff, 0xfe]) }), end], 'UTF-8'],
    [
      'a wrong checksum',
      [Buffer.concat([header('a').subarray(0, 1).fill('b'), header('a').subarray(1)]), end],
      'no tar archive',
    ],
    ['text', [Buffer.alloc(5000, 'hello ')], 'no tar archive'],
    ['a compressed archive', [Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(600, 1)], 'no tar archive'],
    ['an archive that ends in a header', [header('a').subarray(0, 300)], 'no tar archive'],
    [
      'an archive that ends in a file',
      [header('a', { 124: '00000010000' }), Buffer.alloc(512)],
      'ends within',
    ],
    [
      'extended headers of 5 MB',
      [header('x', { 156: 'x', 124: '00023420000' }), Buffer.alloc(6_000_000)],
      '',
    ],
  ])('%s', async (_what, archive, words) => {
    const { code, message } = await refusal(archive)
    expect(['invalid-package', 'quota-exceeded']).toContain(code)
    expect(message).toContain(words)
  })

  it('a sparse file in pax headers', async () => {
    const record = '22 GNU.sparse.major=1\n'
    const pax = Buffer.concat([
      header('p', { 156: 'x', 124: '00000000026' }),
      Buffer.from(record.padEnd(512, '\0')),
    ])
    expect(await refusal([pax, header('a'), end])).toMatchObject({
      code: 'invalid-package',
      message: expect.stringContaining('sparse'),
    })
  })

  it('one that never ends, before anything of it is kept', async () => {
    let sent = 0
    async function* zeros(): AsyncGenerator<Uint8Array> {
      for (; sent < 1e9; sent += 65_536) yield Buffer.alloc(65_536)
    }
    expect((await refusal(zeros())).code).toBe('invalid-package')
    expect(sent).toBeLessThan(2_000_000)
  })

  it('more bytes than there is room for, unread', async () => {
    let sent = 0
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield header('a', { 124: '77777777777' })
      for (; sent < 1e9; sent += 65_536) yield Buffer.alloc(65_536)
    }
    expect(await refusal(endless(), 1_000_000)).toMatchObject({ code: 'quota-exceeded', written: 0 })
    expect(sent).toBeLessThan(2_000_000)
  })

  it('hard links that multiply one file', async () => {
    const links = Array.from({ length: 20 }, (_, index) => header(`l${index}`, { 156: '1', 157: 'a' }))
    const archive = [header('a', { 124: '00000001000' }), Buffer.alloc(512, 'x'), ...links, end]
    expect((await refusal(archive, 512 * 10)).code).toBe('quota-exceeded')
  })

  it('a million entries, long before they are all made', async () => {
    let sent = 0
    async function* many(): AsyncGenerator<Uint8Array> {
      for (; sent < 1_000_000; sent++) yield header(`l${sent}`, { 156: '2', 157: 'a' })
    }
    const { code } = await refusal(many())
    expect(code).toBe('too-large')
    expect(sent).toBeLessThan(contentIndexLimits.maxEntries + 1000)
  }, 60_000)

  it('directories by the million in a few paths', async () => {
    async function* deep(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < 20_000; at++) {
        const path = `${at}/${'d/'.repeat(98)}`
        yield header(path.slice(-100), { 156: '5', 345: path.length > 100 ? path.slice(0, -101) : '' })
      }
    }
    const directory = temporaryDirectory('catalog-unpack-')
    const signal = AbortSignal.timeout(60_000)
    await expect(unpackArchive(deep(), directory, { maxBytes: manyBytes, signal })).rejects.toMatchObject({
      code: 'too-large',
    })
  }, 90_000)

  it('whatever bytes come: refused by a code, or taken within the directory', async () => {
    const whole = await archiveOf([
      file('a', 'x'.repeat(700)),
      { kind: 'link', path: 'l', target: 'a' },
      file('d/é', 'y'),
    ])
    const change = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) })
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        async (changes, mend) => {
          const bytes = Buffer.from(whole)
          for (const { at, byte } of changes) bytes[at] = byte
          // With right checksums what was changed is looked at, and not only that something was.
          if (mend)
            for (let at = 0; at + 512 <= bytes.length; at += 512) mendChecksum(bytes.subarray(at, at + 512))
          const out = temporaryDirectory('catalog-unpack-')
          await unpackArchive(Readable.from([bytes]), out, { maxBytes: 10_000 }).catch(error =>
            expect(['invalid-package', 'quota-exceeded', 'too-large']).toContain(error.code),
          )
        },
      ),
      { numRuns: 300 },
    )
  })
})

function mendChecksum(block: Buffer): void {
  if (block.toString('latin1', 257, 262) !== 'ustar') return
  block.fill(' ', 148, 156)
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  )
}
