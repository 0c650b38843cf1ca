// A directory that is deleted when the test ends.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export async function makeTemporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'catalog-store-'))
  return path
}

export const deleteDirectory = (path: string): Promise<void> => rm(path, { recursive: true, force: true })

export async function temporaryDirectory(): Promise<string> {
  const path = await makeTemporaryDirectory()
  onTestFinished(() => deleteDirectory(path))
  return path
}
