// The real FileSystem.
import { mkdir, open, readdir, rename, statfs, unlink } from 'node:fs/promises'
import type { FileSystem } from './file-system.ts'

export const nodeFileSystem: FileSystem = { open, mkdir, readdir, rename, statfs, unlink }
