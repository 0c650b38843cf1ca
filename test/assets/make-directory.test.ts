import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { makeDirectory } from '../../src/assets/make-directory.ts'

describe('makeDirectory', () => {
  let root: string
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'catalog-make-directory-'))
  })
  afterEach(() => rm(root, { recursive: true }))

  it('makes what is missing, with the mode, and accepts what is there', async () => {
    const path = join(root, 'a', 'b', 'c')
    await makeDirectory(path, 0o700)
    await makeDirectory(path, 0o700)
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    expect((await stat(join(root, 'a'))).mode & 0o777).toBe(0o700)
  })

  it('ends with an error where no directory can be made', async () => {
    await writeFile(join(root, 'file'), '')
    await expect(makeDirectory(join(root, 'file', 'a'))).rejects.toMatchObject({ code: 'ENOTDIR' })
  })

  it.runIf(process.platform === 'linux')('ends below /proc, where mkdir says ENOENT', async () => {
    await expect(makeDirectory('/proc/catalog/a/b')).rejects.toMatchObject({ code: 'no-such-path' })
  })
})
