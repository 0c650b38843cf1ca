import { execFileSync } from 'node:child_process'
import { chmod, link, mkdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type SourceEntry, scanPackage } from '../../src/assets/package-tree.ts'
import type { ErrorCode } from '../../src/base/errors.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { minimalManifest, withDirectory } from './package-trees.ts'

type Files = Record<string, string | Uint8Array>

async function fill(root: string, files: Files): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true })
    if (path.endsWith('/')) await mkdir(join(root, path), { recursive: true })
    else await writeFile(join(root, path), content)
  }
}

const withPackage = <T>(files: Files, work: (root: string) => Promise<T>, manifest = minimalManifest) =>
  withDirectory(async root => {
    await fill(root, { 'catalog.yaml': manifest, ...files })
    return await work(root)
  })

const pathsOf = (entries: readonly SourceEntry[]) => entries.map(entry => `${entry.kind} ${entry.path}`)

const scannedPaths = async (files: Files, manifest?: string) =>
  await withPackage(files, async root => pathsOf((await scanPackage(root)).entries), manifest)

async function refusal(work: Promise<unknown>, code: ErrorCode, ...words: string[]): Promise<void> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isCatalogError(error, code)) throw error ?? new Error(`nothing was refused; ${code} was expected`)
  for (const word of words) expect(error.message).toContain(word)
}

describe('a package directory', () => {
  test('its files, links and empty directories, hidden ones too, sorted by the bytes of their paths', async () => {
    await withPackage(
      {
        'b/c.txt': 'c',
        'b.txt': 'bb',
        '.hidden': '',
        'empty/': '',
        '\u{1F600}': 'x',
        '\uffee': 'y',
        'b-a': '',
      },
      async root => {
        await symlink('../b.txt', join(root, 'b/link'))
        await symlink('nowhere', join(root, 'dangling'))
        await chmod(join(root, 'b.txt'), 0o751)
        const tree = await scanPackage(root)
        expect(pathsOf(tree.entries)).toEqual([
          'file .hidden',
          'file b-a',
          'file b.txt',
          'file b/c.txt',
          'link b/link',
          'file catalog.yaml',
          'link dangling',
          'directory empty',
          'file \uffee',
          'file \u{1F600}',
        ])
        expect(tree.entries[2]).toMatchObject({ mode: 0o751, size: 2 })
        expect(tree.entries[4]).toMatchObject({ target: '../b.txt' })
        expect(tree.totalBytes).toBe(minimalManifest.length + 5)
        expect(tree.manifest.metadata.name).toBe('sample')
        expect(tree.manifestPath).toBe('catalog.yaml')
        expect(Buffer.from(tree.manifestBytes).toString()).toBe(minimalManifest)
        // What was judged is what is stored, whatever happens to the file.
        expect(tree.entries[5]).toMatchObject({ source: { kind: 'inline', bytes: tree.manifestBytes } })
      },
    )
  })

  test('a link to a directory is a link, and is not entered', async () => {
    await withPackage({ 'real/a': 'a' }, async root => {
      await symlink('real', join(root, 'alias'))
      await symlink('.', join(root, 'real/loop'))
      const { entries } = await scanPackage(root)
      expect(pathsOf(entries)).toEqual(['link alias', 'file catalog.yaml', 'file real/a', 'link real/loop'])
    })
  })

  test('hard links are copies; sticky bits and modes of directories are nothing', async () => {
    await withPackage({ a: 'same', 'd/x': '' }, async root => {
      await link(join(root, 'a'), join(root, 'b'))
      await chmod(join(root, 'd'), 0o2700)
      await chmod(join(root, 'a'), 0o1640)
      const { entries } = await scanPackage(root)
      expect(
        entries.filter(entry => entry.kind === 'file').map(entry => [entry.path, entry.mode, entry.size]),
      ).toEqual([
        ['a', 0o640, 4],
        ['b', 0o640, 4],
        ['catalog.yaml', 0o644, minimalManifest.length],
        ['d/x', 0o644, 0],
      ])
    })
  })

  test('the directory may be named by a link', async () => {
    await withPackage({ a: 'a' }, async root => {
      await withDirectory(async other => {
        await symlink(root, join(other, 'here'))
        expect((await scanPackage(join(other, 'here'))).entries).toHaveLength(2)
      })
    })
  })

  test('inline binaries are files, in directories that were empty too', async () => {
    const manifest = `${minimalManifest}  binaries:\n    - {path: data/seed.bin, base64: AAEC}\n    - {path: empty/x, base64: ""}\n`
    await withPackage(
      { 'empty/': '', 'data/other': '' },
      async root => {
        const { entries } = await scanPackage(root)
        expect(pathsOf(entries)).toEqual([
          'file catalog.yaml',
          'file data/other',
          'file data/seed.bin',
          'file empty/x',
        ])
        expect(entries[2]).toMatchObject({ mode: 0o644, size: 3, source: { bytes: Buffer.from([0, 1, 2]) } })
      },
      manifest,
    )
  })

  test.each<[string, Files, string]>([
    ['a file', { x: '' }, 'x'],
    ['a directory', { 'x/y': '' }, 'x'],
    ['an empty directory', { 'x/': '' }, 'x'],
    ['below a file', { x: '' }, 'x/y'],
    ['the manifest itself', {}, 'catalog.yaml'],
  ])('an inline binary at the path of %s is refused', async (_, files, path) => {
    const manifest = `${minimalManifest}  binaries: [{path: "${path}", base64: ""}]\n`
    await refusal(scannedPaths(files, manifest), 'invalid-package', 'inline binary', JSON.stringify(path))
  })

  test('an entrypoint that is not there is a warning with its place', async () => {
    const manifest = `${minimalManifest}  execution: {runtime: python, entrypoint: main.py}\n`
    await withPackage(
      {},
      async root => {
        const { warnings } = await scanPackage(root)
        expect(warnings).toMatchObject([{ path: 'spec.execution.entrypoint', line: 8, column: 44 }])
        await writeFile(join(root, 'main.py'), '')
        expect((await scanPackage(root)).warnings).toEqual([])
      },
      manifest,
    )
  })

  test('ten thousand files are found soon', async () => {
    await withPackage({}, async root => {
      for (let directory = 0; directory < 100; directory++) {
        await mkdir(join(root, `d${directory}`))
        await Promise.all(
          Array.from({ length: 100 }, (_, file) => writeFile(join(root, `d${directory}`, `f${file}`), '')),
        )
      }
      const started = performance.now()
      expect((await scanPackage(root)).entries).toHaveLength(10_001)
      expect(performance.now() - started).toBeLessThan(5000)
    })
  })

  test('a scan can be stopped, with its reason', async () => {
    await withPackage({ 'a/b': '' }, async root => {
      const reason = new Error('enough')
      await expect(scanPackage(root, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    })
  })
})

describe('a manifest alone', () => {
  test('becomes the release, under the name that manifests have', async () => {
    await withDirectory(async root => {
      await fill(root, {
        'gpu-asset.yml': `${minimalManifest}  binaries: [{path: a/b, base64: AAEC}]\n`,
        other: 'x',
      })
      const tree = await scanPackage(join(root, 'gpu-asset.yml'))
      expect(tree.manifestPath).toBe('catalog.yml')
      expect(pathsOf(tree.entries)).toEqual(['file a/b', 'file catalog.yml'])
    })
  })

  test('needs a name that tells its format', async () => {
    await withDirectory(async root => {
      await fill(root, { manifest: minimalManifest })
      await refusal(scanPackage(join(root, 'manifest')), 'invalid-package', '.toml')
    })
  })
})

describe('what is refused, with its path', () => {
  test('no manifest, two manifests, a manifest that is a link or a directory', async () => {
    await withDirectory(async root => {
      await refusal(scanPackage(root), 'invalid-package', root, 'catalog.yaml')
      await fill(root, { 'catalog.yaml': minimalManifest, 'catalog.toml': '' })
      await refusal(scanPackage(root), 'invalid-package', 'catalog.yaml', 'catalog.toml')
    })
    await withDirectory(async root => {
      await fill(root, { real: minimalManifest })
      await symlink('real', join(root, 'catalog.yaml'))
      await refusal(scanPackage(root), 'invalid-package', 'catalog.yaml', 'symbolic link')
    })
    await withDirectory(async root => {
      await fill(root, { 'catalog.yaml/': '' })
      await refusal(scanPackage(root), 'invalid-package', 'catalog.yaml')
    })
  })

  test('a path that is not there, or is no file', async () => {
    await withDirectory(async root => {
      await refusal(scanPackage(join(root, 'nothing')), 'no-such-path', 'nothing')
      await writeFile(join(root, 'file'), '')
      await refusal(scanPackage(join(root, 'file/x')), 'no-such-path')
      execFileSync('mkfifo', [join(root, 'catalog.yaml')])
      await refusal(scanPackage(join(root, 'catalog.yaml')), 'invalid-package', 'neither')
      await refusal(scanPackage(root), 'invalid-package', 'FIFO')
    })
  })

  test('an invalid manifest, with its problems', async () => {
    const error: unknown = await scannedPaths({}, 'kind: x\n').catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'invalid-manifest', data: { problems: expect.any(Array) } })
  })

  test('a manifest of 100 MB is not read', async () => {
    await withPackage({}, async root => {
      await truncate(join(root, 'catalog.yaml'), 100 * 1024 * 1024)
      const before = process.memoryUsage().rss
      await refusal(scanPackage(root), 'too-large', '104857600')
      await refusal(scanPackage(join(root, 'catalog.yaml')), 'too-large')
      expect(process.memoryUsage().rss - before).toBeLessThan(50 * 1024 * 1024)
    })
  })

  test.each(['/etc/passwd', '../outside', 'd/../../outside', ''])('a link to %j', async target => {
    if (target === '') return
    await withPackage({}, async root => {
      await symlink(target, join(root, 'out'))
      await refusal(scanPackage(root), 'invalid-package', '"out"')
    })
  })

  test('set-id bits, FIFOs, sockets and names that are not UTF-8', async () => {
    await withPackage({ tool: '' }, async root => {
      await chmod(join(root, 'tool'), 0o4755)
      await refusal(scanPackage(root), 'invalid-package', 'tool', 'chmod')
      await chmod(join(root, 'tool'), 0o2755)
      await refusal(scanPackage(root), 'invalid-package', 'tool')
    })
    await withPackage({ 'd/x': '' }, async root => {
      execFileSync('mkfifo', [join(root, 'd/pipe')])
      await refusal(scanPackage(root), 'invalid-package', 'd/pipe', 'FIFO')
      await writeFile(join(root, '.catalogignore'), 'pipe\n')
      expect((await scanPackage(root)).entries).toHaveLength(3)
    })
    await withPackage({}, async root => {
      await writeFile(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff])]), '')
      await refusal(scanPackage(root), 'invalid-package', 'bad-', 'UTF-8')
    })
    await withPackage({}, async root => {
      await symlink(Buffer.from([0x61, 0xff]), join(root, 'link'))
      await refusal(scanPackage(root), 'invalid-package', '"link"', 'UTF-8')
    })
  })

  test.skipIf(process.geteuid?.() !== 0)('devices (SKIP without root: making one needs it)', async () => {
    await withPackage({}, async root => {
      execFileSync('mknod', [join(root, 'null'), 'c', '1', '3'])
      await refusal(scanPackage(root), 'invalid-package', '"null"', 'device')
    })
  })

  test.skipIf(process.geteuid?.() === 0)(
    'what may not be read (SKIP as root, who may read everything)',
    async () => {
      await withPackage({ secret: '', 'closed/x': '' }, async root => {
        await chmod(join(root, 'secret'), 0)
        await refusal(scanPackage(root), 'forbidden', '"secret"')
        await chmod(join(root, 'secret'), 0o600)
        await chmod(join(root, 'closed'), 0)
        await refusal(scanPackage(root), 'forbidden', '"closed"')
        await chmod(join(root, 'closed'), 0o700)
      })
    },
  )

  // As root, another user scans, in a process of its own: SKIP where that user cannot read this checkout.
  test.skipIf(process.geteuid?.() !== 0)(
    'what another user may not read (SKIP without root)',
    async context => {
      await withPackage({ secret: '', 'closed/x': '' }, async root => {
        await chmod(root, 0o755)
        await chmod(join(root, 'secret'), 0o600)
        const first = scanAsNobody(root)
        if (first === undefined) return context.skip('nobody cannot run this checkout')
        expect(first).toMatchObject({ code: 'forbidden', path: 'secret' })
        await chmod(join(root, 'secret'), 0o644)
        await chmod(join(root, 'closed'), 0o700)
        expect(scanAsNobody(root)).toMatchObject({ code: 'forbidden', path: 'closed' })
        await chmod(join(root, 'closed'), 0o755)
        expect(scanAsNobody(root)).toEqual({ entries: 3 })
      })
    },
  )
})

function scanAsNobody(root: string): unknown {
  const file = new URL('../../src/assets/package-tree.ts', import.meta.url).href
  const script = `const { scanPackage } = await import(${JSON.stringify(file)})
    const answer = await scanPackage(${JSON.stringify(root)}).then(tree => ({ entries: tree.entries.length }), error => error)
    console.log(JSON.stringify(answer))`
  try {
    return JSON.parse(
      execFileSync(process.execPath, ['--input-type=module', '-e', script], {
        uid: 65534,
        gid: 65534,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    )
  } catch {
    return undefined
  }
}

describe('.catalogignore', () => {
  const files = {
    'a.log': '',
    'keep.log': '',
    'build/x': '',
    'build/keep': '',
    'src/build/y': '',
    'src/A.LOG': '',
    'deep/only.log': '',
  }

  test('leaves out by gitignore rules, and is itself a file of the release', async () => {
    const paths = await scannedPaths({
      ...files,
      '.catalogignore': '# logs\n*.log\n!keep.log\n/build/\n!build/keep\n',
    })
    expect(paths).toEqual([
      'file .catalogignore',
      'file catalog.yaml',
      // Its content is left out, it is not.
      'directory deep',
      'file keep.log',
      // Names are compared with case, on every machine.
      'file src/A.LOG',
      'file src/build/y',
    ])
  })

  test('a pattern with a slash at its end names directories only; `dir/*` lets files back in', async () => {
    const rules = 'build/*\n!build/keep\nsrc/\na.log/\n'
    const paths = await scannedPaths({ ...files, '.catalogignore': rules })
    expect(paths).toEqual([
      'file .catalogignore',
      'file a.log',
      'file build/keep',
      'file catalog.yaml',
      'file deep/only.log',
      'file keep.log',
    ])
  })

  test('.gitignore, and a .catalogignore below, are files like any other', async () => {
    const paths = await scannedPaths({ '.gitignore': '*\n', 'd/.catalogignore': '*\n', 'd/x': '' })
    expect(paths).toEqual(['file .gitignore', 'file catalog.yaml', 'file d/.catalogignore', 'file d/x'])
  })

  test('agrees with git', async () => {
    const rules =
      '*.log\n!keep.log\n/build/\n!build/keep\nsrc/**/y\ndoc/*.t?t\n[ab].md\n\\#x\n!deep/only.log\ntrail \n'
    const more = {
      'doc/a.txt': '',
      'doc/b/a.txt': '',
      'a.md': '',
      'c.md': '',
      '#x': '',
      trail: '',
      '.dot/.log': '',
      'x.log/in': '',
    }
    await withPackage({ ...files, ...more, '.catalogignore': rules, '.gitignore': rules }, async root => {
      execFileSync('git', ['init', '-q'], { cwd: root })
      const listed = execFileSync(
        'git',
        ['-c', 'core.excludesFile=/dev/null', 'ls-files', '-co', '--exclude-standard', '-z'],
        { cwd: root },
      )
      const byGit = listed
        .toString()
        .split('\0')
        .filter(path => path !== '')
        .sort()
      const { entries } = await scanPackage(root)
      const ours = entries
        .filter(entry => entry.kind === 'file' && !entry.path.startsWith('.git/'))
        .map(entry => entry.path)
      expect(ours.sort()).toEqual(byGit)
    })
  })

  test('cannot leave out the manifest, be a link, or stall the scan', async () => {
    await refusal(
      scannedPaths({ '.catalogignore': '*\n' }),
      'invalid-package',
      'catalog.yaml',
      '.catalogignore',
    )
    await refusal(scannedPaths({ '.catalogignore': `${'*a'.repeat(30)}\n` }), 'invalid-package', 'line 1')
    await refusal(scannedPaths({ '.catalogignore': Buffer.from([0xff]) }), 'invalid-package', 'UTF-8')
    await refusal(scannedPaths({ '.catalogignore': 'x\n'.repeat(200_000) }), 'invalid-package', 'bytes')
    await withPackage({}, async root => {
      await symlink('/etc/passwd', join(root, '.catalogignore'))
      await refusal(scanPackage(root), 'invalid-package', 'symbolic link')
    })
  })
})
