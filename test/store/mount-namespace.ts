// Runs a worker on a file system of its own, in a private mount namespace: nothing outside sees the mount, and it is
// gone with the process.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Why this machine cannot do it; undefined when it can. */
export async function whyNoMounts(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'mounting a file system needs root'
  try {
    await run('unshare', ['-m', '--propagation', 'private', 'true'])
    return undefined
  } catch (error) {
    return `a private mount namespace cannot be had here (${(error as Error).message.split('\n')[0]})`
  }
}

/** Runs the worker as root of the mounts it makes; resolves to its standard output. */
export async function runInNamespace(command: readonly string[]): Promise<string> {
  const { stdout } = await run('unshare', ['-m', '--propagation', 'private', ...command], {
    timeout: 150_000,
    maxBuffer: 16 * 1024 * 1024,
  })
  return stdout
}

/** Mounts a tmpfs of `mebibytes` at `directory` and runs the worker with it; resolves to its standard output. */
export async function runOnSmallDisk(
  directory: string,
  mebibytes: number,
  worker: string,
  args: readonly string[],
): Promise<string> {
  const script = 'mount -t tmpfs -o size="$2"m tmpfs "$1" && shift 2 && exec "$@"'
  const command = [process.execPath, worker, directory, ...args]
  return runInNamespace(['sh', '-c', script, 'sh', directory, String(mebibytes), ...command])
}
