// The few file operations that payload files need, as an object: tests pass one that fails where they choose.

export interface OpenFile {
  /** Bytes read from `position` into the buffer; fewer than its length, or 0, at the end of the file. */
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>
  write(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>
  /** fdatasync(2). */
  datasync(): Promise<void>
  /** fsync(2); on a directory it makes the names in it durable. */
  sync(): Promise<void>
  stat(): Promise<{ readonly size: number; readonly blocks: number }>
  close(): Promise<void>
}

export type ReadableFile = Pick<OpenFile, 'read'>

export interface FileSystem {
  /** `r` to read, `r+` to read and write what exists, `wx+` to make a file that must not exist. */
  open(path: string, flags: 'r' | 'r+' | 'wx+', mode?: number): Promise<OpenFile>
  mkdir(path: string, options: { recursive: true; mode: number }): Promise<unknown>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  readdir(path: string): Promise<string[]>
  statfs(path: string): Promise<{ readonly bavail: number; readonly bsize: number }>
}

/** Fills `buffer` from `position`; resolves to the bytes there were. */
export async function readFully(file: ReadableFile, buffer: Uint8Array, position: number): Promise<number> {
  let done = 0
  while (done < buffer.byteLength) {
    const { bytesRead } = await file.read(buffer, done, buffer.byteLength - done, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

export async function writeFully(file: OpenFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, position + done)
    done += bytesWritten
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(fileSystem: FileSystem, path: string): Promise<void> {
  const directory = await fileSystem.open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

export const isMissing = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
