import { execFileSync } from 'node:child_process'
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ContentIndex } from '../../src/assets/content-index.ts'
import { comparePaths } from '../../src/assets/entry-path.ts'
import { type SourceEntry, scanPackage } from '../../src/assets/package-tree.ts'
import { writeTree } from '../../src/assets/write-tree.ts'
import type { ErrorCode } from '../../src/base/errors.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { indexOf, minimalManifest, readerOf, withDirectory } from './package-trees.ts'

const marker = 'bafyreigh2akiscaildc'

const file = (path: string, content: string | Uint8Array, mode = 0o644): SourceEntry => {
  const bytes = Buffer.from(content)
  return { kind: 'file', path, mode, size: bytes.byteLength, source: { kind: 'inline', bytes } }
}

const sorted = (entries: SourceEntry[]) => entries.sort((a, b) => comparePaths(a.path, b.path))

const sample = () =>
  sorted([
    file('a.txt', 'first'),
    file('bin/run', 'x'.repeat(1000), 0o755),
    file('bin/secret', 'read only', 0o444),
    file('empty', ''),
    file('large', Buffer.alloc(700_000, 'large '), 0o640),
    { kind: 'directory', path: 'nothing/in/it' },
    { kind: 'link', path: 'latest', target: 'bin/run' },
  ])

/** Everything below a directory, as the file system has it. */
async function listing(root: string, directory = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of await readdir(join(root, directory))) {
    const path = directory === '' ? name : `${directory}/${name}`
    const status = await lstat(join(root, path))
    const mode = (status.mode & 0o7777).toString(8)
    if (status.isSymbolicLink()) found[path] = `-> ${await readlink(join(root, path))}`
    else if (status.isDirectory()) {
      found[path] = `directory ${mode}`
      Object.assign(found, await listing(root, path))
    } else
      found[path] =
        `${mode} ${(await readFile(join(root, path))).toString('base64').slice(0, 40)} ${status.size}`
  }
  return found
}

function expected(entries: readonly SourceEntry[]): Record<string, string> {
  const found: Record<string, string> = {}
  for (const entry of entries) {
    const parts = entry.path.split('/')
    for (let depth = 1; depth < parts.length; depth++)
      found[parts.slice(0, depth).join('/')] = 'directory 755'
    if (entry.kind === 'directory') found[entry.path] = 'directory 755'
    else if (entry.kind === 'link') found[entry.path] = `-> ${entry.target}`
    else if (entry.source.kind === 'inline') {
      const bytes = Buffer.from(entry.source.bytes)
      found[entry.path] = `${entry.mode.toString(8)} ${bytes.toString('base64').slice(0, 40)} ${entry.size}`
    }
  }
  return found
}

async function refusal(work: Promise<unknown>, code: ErrorCode, ...words: string[]): Promise<void> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isCatalogError(error, code)) throw error ?? new Error(`nothing was refused; ${code} was expected`)
  for (const word of words) expect(error.message).toContain(word)
}

async function withRelease(
  work: (given: {
    out: string
    parent: string
    index: ContentIndex
    stream: Uint8Array
    entries: SourceEntry[]
  }) => Promise<void>,
  entries = sample(),
): Promise<void> {
  await withDirectory(async parent => {
    await work({ ...(await indexOf(entries)), entries, parent, out: join(parent, 'out') })
  })
}

describe('a directory that is not there', () => {
  test('appears whole, with every mode, whatever the umask', async () => {
    await withRelease(async ({ out, parent, index, stream, entries }) => {
      const { read, reads } = readerOf(stream, 333)
      const progress: number[] = []
      const umask = process.umask(0o077)
      try {
        const result = await writeTree(index, read, out, { marker, onProgress: done => progress.push(done) })
        expect(result).toEqual({ written: 5, kept: 0 })
      } finally {
        process.umask(umask)
      }
      expect(await listing(out)).toEqual(expected(entries))
      expect((await stat(out)).mode & 0o7777).toBe(0o755)
      expect(reads).toEqual([{ offset: 0, length: stream.byteLength }])
      expect(progress.at(-1)).toBe(stream.byteLength)
      expect(await readdir(parent)).toEqual(['out'])
    })
  })

  test('parents are made, and an empty release is an empty directory', async () => {
    await withRelease(async ({ parent, index, stream }) => {
      const out = join(parent, 'x/y/z')
      await writeTree(index, readerOf(stream).read, out, { marker })
      expect(await readdir(out)).toEqual([])
    }, [])
  })

  test('is completed from what a killed run left beside it', async () => {
    await withRelease(async ({ out, parent, index, stream, entries }) => {
      await writeTree(index, readerOf(stream).read, out, { marker })
      const partial = join(parent, `.out.partial-${marker.slice(-16)}`)
      await rename(out, partial)
      await truncate(join(partial, 'large'), 1000)
      await rm(join(partial, 'latest'))
      await chmod(join(partial, 'a.txt'), 0o600)
      await writeFile(join(partial, 'stray'), 'not of the release')
      await symlink('/etc', join(partial, 'stray-link'))
      const { read, reads } = readerOf(stream)
      expect(await writeTree(index, read, out, { marker })).toEqual({ written: 1, kept: 4 })
      expect(reads).toEqual([{ offset: stream.byteLength - 700_000, length: 700_000 }])
      expect(await listing(out)).toEqual(expected(entries))
      expect(await readdir(parent)).toEqual(['out'])
    })
  })

  test('is not there after a failure, and nothing is beside it', async () => {
    await withRelease(async ({ out, parent, index, stream }) => {
      const short = stream.subarray(0, stream.byteLength - 1)
      await refusal(writeTree(index, readerOf(short).read, out, { marker }), 'corrupt-content')
      const long = async function* () {
        yield stream
        yield Buffer.from('x')
      }
      await refusal(writeTree(index, long, out, { marker }), 'corrupt-content', 'longer')
      for (const at of [0, 10, stream.byteLength - 5]) {
        const bad = Buffer.from(stream)
        bad[at] = (bad[at] ?? 0) ^ 1
        await refusal(writeTree(index, readerOf(bad).read, out, { marker }), 'corrupt-content')
      }
      const reason = new Error('enough')
      const stop = new AbortController()
      const stopping = writeTree(index, readerOf(stream, 100).read, out, {
        marker,
        signal: stop.signal,
        onProgress: () => stop.abort(reason),
      })
      await expect(stopping).rejects.toBe(reason)
      expect(await readdir(parent)).toEqual([])
    })
  })

  test('a partial directory that is none is not used', async () => {
    await withRelease(async ({ out, parent, index, stream }) => {
      await mkdir(join(parent, 'elsewhere'))
      await symlink('elsewhere', join(parent, `.out.partial-${marker.slice(-16)}`))
      await refusal(writeTree(index, readerOf(stream).read, out, { marker }), 'output-exists')
      expect(await readdir(join(parent, 'elsewhere'))).toEqual([])
    })
  })

  test('two at once: one writes, the other is told', async () => {
    await withRelease(async ({ out, index, stream, entries }) => {
      const { read } = readerOf(stream)
      const both = [writeTree(index, read, out, { marker }), writeTree(index, read, out, { marker })]
      const states = await Promise.allSettled(both)
      expect(states.map(state => state.status)).toEqual(['fulfilled', 'rejected'])
      await refusal(both[1] as Promise<unknown>, 'busy')
      expect(await listing(out)).toEqual(expected(entries))
    })
  })
})

describe('a directory that is there', () => {
  test('is written in place when it is empty, and keeps its own mode', async () => {
    await withRelease(async ({ out, index, stream, entries }) => {
      await mkdir(out, { mode: 0o700 })
      await writeTree(index, readerOf(stream).read, out, { marker })
      expect(await listing(out)).toEqual(expected(entries))
      expect((await stat(out)).mode & 0o7777).toBe(0o700)
    })
  })

  test('is left as it is when it is the release already', async () => {
    await withRelease(async ({ out, index, stream, entries }) => {
      await writeTree(index, readerOf(stream).read, out, { marker })
      const { read, reads } = readerOf(stream)
      expect(await writeTree(index, read, out, { marker })).toEqual({ written: 0, kept: 5 })
      expect(reads).toEqual([])
      expect(await listing(out)).toEqual(expected(entries))
    })
  })

  test('is completed when it holds part of the release: files missing, cut short, or with another mode', async () => {
    await withRelease(async ({ out, index, stream, entries }) => {
      await writeTree(index, readerOf(stream).read, out, { marker })
      await rm(join(out, 'a.txt'))
      await rm(join(out, 'nothing'), { recursive: true })
      await truncate(join(out, 'large'), 300_000)
      await chmod(join(out, 'bin/secret'), 0o600)
      await chmod(join(out, 'bin'), 0o700)
      expect(await writeTree(index, readerOf(stream).read, out, { marker })).toEqual({ written: 2, kept: 3 })
      expect(await listing(out)).toEqual(expected(entries))
    })
  })

  const strangers: [string, (out: string) => Promise<unknown>, string][] = [
    ['a file of another kind', out => writeFile(join(out, 'mine'), 'precious'), 'mine'],
    ['a changed file', out => writeFile(join(out, 'a.txt'), 'FIRST'), 'a.txt'],
    ['a file that begins otherwise', out => writeFile(join(out, 'large'), 'mine'), 'large'],
    ['a link instead of a file', out => symlink('/etc/passwd', join(out, 'a.txt')), 'a.txt'],
    ['a link instead of a directory', out => symlink('/tmp', join(out, 'bin')), 'bin'],
    ['a file instead of a directory', out => writeFile(join(out, 'bin'), ''), 'bin'],
    ['a directory instead of a file', out => mkdir(join(out, 'a.txt')), 'a.txt'],
    ['another link', out => symlink('elsewhere', join(out, 'latest')), 'latest'],
  ]
  test.each(strangers)(
    'is refused with %s, and nothing in it changes; with force it is replaced',
    async (_, make, name) => {
      await withRelease(async ({ out, index, stream, entries }) => {
        await mkdir(out)
        await make(out)
        const before = await listing(out)
        await refusal(
          writeTree(index, readerOf(stream).read, out, { marker }),
          'output-exists',
          name,
          '--force',
        )
        expect(await listing(out)).toEqual(before)
        await writeTree(index, readerOf(stream).read, out, { marker, force: true })
        expect(await listing(out)).toEqual({ ...expected(entries), ...(name === 'mine' && before) })
      })
    },
  )

  test('with force, links are replaced and never followed', async () => {
    await withRelease(async ({ out, parent, index, stream, entries }) => {
      const outside = join(parent, 'outside')
      await mkdir(outside)
      await writeFile(join(outside, 'victim'), 'untouched')
      await mkdir(out)
      await symlink(join(outside, 'victim'), join(out, 'a.txt'))
      await symlink(outside, join(out, 'bin'))
      await symlink(outside, join(out, 'nothing'))
      await writeTree(index, readerOf(stream).read, out, { marker, force: true })
      expect(await listing(out)).toEqual(expected(entries))
      expect(await readdir(outside)).toEqual(['victim'])
      expect(await readFile(join(outside, 'victim'), 'utf8')).toBe('untouched')
    })
  })

  test.each([
    ['file', (path: string) => writeFile(path, 'just now')],
    ['link', (path: string) => symlink('../victim', path)],
  ])('a %s that appears while it is written is not written through, nor removed', async (_, appear) => {
    await withRelease(async ({ out, parent, index, stream }) => {
      await writeFile(join(parent, 'victim'), 'just now')
      await mkdir(out)
      const { read } = readerOf(stream)
      async function* readLate(offset: number, length: number) {
        await appear(join(out, 'a.txt'))
        yield* read(offset, length)
      }
      await refusal(writeTree(index, readLate, out, { marker, force: true }), 'output-exists', 'a.txt')
      expect(await readdir(out)).toEqual(['a.txt'])
      expect(await readFile(join(out, 'a.txt'), 'utf8')).toBe('just now')
      expect(await readFile(join(parent, 'victim'), 'utf8')).toBe('just now')
    })
  })

  test('a directory with something in it is not removed for a file, even by force', async () => {
    await withRelease(async ({ out, index, stream }) => {
      await mkdir(join(out, 'a.txt'), { recursive: true })
      await writeFile(join(out, 'a.txt/precious'), '')
      const before = await listing(out)
      await refusal(
        writeTree(index, readerOf(stream).read, out, { marker, force: true }),
        'output-exists',
        'a.txt',
      )
      expect(await listing(out)).toEqual(before)
    })
  })

  test('what a failed run made in it is removed again', async () => {
    await withRelease(async ({ out, index, stream }) => {
      await mkdir(out)
      const bad = Buffer.from(stream)
      bad[bad.byteLength - 1] = 0
      await refusal(writeTree(index, readerOf(bad).read, out, { marker }), 'corrupt-content')
      expect(await readdir(out)).toEqual([])
    })
  })

  test('may be named by a link; a file, or a link to nothing, is refused', async () => {
    await withRelease(async ({ out, parent, index, stream, entries }) => {
      await mkdir(join(parent, 'real'))
      await symlink('real', out)
      await writeTree(index, readerOf(stream).read, out, { marker })
      expect(await listing(join(parent, 'real'))).toEqual(expected(entries))
      await symlink('nothing', join(parent, 'dangling'))
      await refusal(
        writeTree(index, readerOf(stream).read, join(parent, 'dangling'), { marker }),
        'output-exists',
      )
      await writeFile(join(parent, 'file'), '')
      await refusal(
        writeTree(index, readerOf(stream).read, join(parent, 'file'), { marker }),
        'output-exists',
      )
    })
  })
})

test('a full disk is told as it is, and the partial directory is removed (SKIP without root: it mounts one)', async context => {
  if (process.geteuid?.() !== 0) return context.skip('mounting a small file system needs root')
  // A process of its own, in a mount namespace of its own: nothing outside sees the mount.
  const modules = ['../../src/assets/write-tree.ts', './package-trees.ts'].map(
    path => new URL(path, import.meta.url).href,
  )
  const script = `
    const [{ writeTree }, { indexOf, readerOf }] = await Promise.all(${JSON.stringify(modules)}.map(path => import(path)))
    const { readdirSync } = await import('node:fs')
    const bytes = Buffer.alloc(3_000_000, 1)
    const file = path => ({ kind: 'file', path, mode: 0o644, size: bytes.byteLength, source: { kind: 'inline', bytes } })
    const { index, stream } = await indexOf([file('a'), file('b')])
    const error = await writeTree(index, readerOf(stream).read, process.argv[1] + '/out', { marker: 'm' }).catch(error => error)
    console.log(JSON.stringify({ code: error.code, left: readdirSync(process.argv[1]) }))`
  await withDirectory(async mount => {
    const command = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$1"'
    const args = [
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      command,
      'sh',
      mount,
      process.execPath,
      script,
    ]
    const answer = execFileSync('unshare', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    expect(JSON.parse(answer)).toEqual({ code: 'ENOSPC', left: [] })
  })
})

test('ten thousand small files are written soon, in little memory', async () => {
  const entries = sorted(
    Array.from({ length: 10_000 }, (_, i) => file(`d${i % 100}/f${i}`, `content of ${i}`, 0o600 + (i % 64))),
  )
  await withRelease(async ({ out, index, stream }) => {
    const started = performance.now()
    await writeTree(index, readerOf(stream).read, out, { marker })
    expect(performance.now() - started).toBeLessThan(15_000)
    expect((await readdir(join(out, 'd7'))).length).toBe(100)
    expect((await stat(join(out, 'd63/f63'))).mode & 0o777).toBe(0o677)
  }, entries)
})

test('whatever tree is scanned comes out of writing the same, and scans to the same entries', async () => {
  // A character of its own per kind of trouble: order beyond U+FFFF, combining marks, white space, quotes.
  const name = fc
    .string({
      unit: fc.constantFrom(
        'a',
        'B',
        '.',
        ' ',
        '-',
        'e\u0301',
        '\u00e9',
        '\uffee',
        '\u{1F600}',
        '\\',
        '"',
        '\n',
        '*',
        '~',
      ),
      minLength: 1,
      maxLength: 6,
    })
    .filter(text => !['.', '..'].includes(text))
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map(names => names.join('/'))
  const mode =
    process.geteuid?.() === 0
      ? fc.integer({ min: 0, max: 0o777 })
      : fc.integer({ min: 0, max: 0o377 }).map(bits => bits | 0o400)
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc
      .record({ length: fc.integer({ min: 260_000, max: 600_000 }), byte: fc.nat(255) })
      .map(({ length, byte }) => new Uint8Array(length).fill(byte)),
  )
  const item = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('file' as const), path, mode, content }) },
    fc.record({ kind: fc.constant('directory' as const), path }),
    fc.record({ kind: fc.constant('link' as const), path, target: name }),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(item, { maxLength: 12 }),
      fc.integer({ min: 997, max: 300_000 }),
      async (items, chunkBytes) => {
        await withDirectory(async parent => {
          const root = join(parent, 'package')
          await mkdir(root)
          for (const made of items) {
            // What does not fit beside what is there already is not part of this tree.
            try {
              await mkdir(join(root, made.path, made.kind === 'directory' ? '.' : '..'), { recursive: true })
              if (made.kind === 'link') await symlink(made.target, join(root, made.path))
              if (made.kind === 'file') {
                await writeFile(join(root, made.path), made.content, { flag: 'wx' })
                await chmod(join(root, made.path), made.mode)
              }
            } catch (error) {
              if (
                !['EEXIST', 'ENOTDIR', 'ENOENT', 'ELOOP', 'EISDIR', 'EACCES'].includes(
                  String((error as NodeJS.ErrnoException).code),
                )
              )
                throw error
            }
          }
          await writeFile(join(root, 'catalog.yaml'), minimalManifest)
          const tree = await scanPackage(root)
          const { index, stream } = await indexOf(tree.entries)
          const out = join(parent, 'out')
          await writeTree(index, readerOf(stream, chunkBytes).read, out, { marker })
          const again = await scanPackage(out)
          const shape = (entries: readonly SourceEntry[]) =>
            entries.map(entry => (entry.kind === 'file' ? [entry.path, entry.mode, entry.size] : entry))
          expect(shape(again.entries)).toEqual(shape(tree.entries))
          expect((await indexOf(again.entries)).index).toEqual(index)
        })
      },
    ),
    { numRuns: 60 },
  )
})
