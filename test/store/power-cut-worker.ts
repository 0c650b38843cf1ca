// Runs inside a mount namespace of its own: cuts the power of an ext4 file system on a loop device, again and again,
// while a crash worker works on it, and prints as JSON what was lost. Arguments: directory, rounds, seed, mode.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Acknowledged, inspect } from './crash-store.ts'

const run = promisify(execFile)
const [directory, rounds, seed, mode] = process.argv.slice(2) as [string, string, string, string]
const image = join(directory, 'disk')
const mount = join(directory, 'mount')
const crashWorker = fileURLToPath(new URL('crash-worker.ts', import.meta.url))

/** EXT4_IOC_SHUTDOWN with NOLOGFLUSH (linux/fs/ext4/ext4.h): from now on nothing reaches the disk, the journal neither. */
const cutPower = `
import fcntl, os, struct, sys, time
mount = os.open(sys.argv[1], os.O_RDONLY)
print(int(time.time() * 1000), flush=True)
fcntl.ioctl(mount, 0x8004587d, struct.pack('I', 2))
`

/** What the worker said, and when the cut began. */
async function runAndCut(roundSeed: number): Promise<{ output: string; cutMs: number }> {
  const child = spawn(process.execPath, [crashWorker, mount, String(roundSeed), mode], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let output = ''
  child.stdout.on('data', data => {
    output += data
  })
  const closed = once(child, 'close')
  await once(child.stdout, 'data')
  await sleep((roundSeed * 31) % 200)
  const { stdout } = await run('python3', ['-c', cutPower, mount])
  child.kill('SIGKILL')
  await closed
  await run('umount', [mount])
  return { output, cutMs: Number(stdout) }
}

await mkdir(mount)
await writeFile(image, '')
await truncate(image, 256 * 1024 * 1024)
await run('mkfs.ext4', ['-q', image])
const acknowledged = new Acknowledged()
const result = { wrong: [] as string[], slowestOpenMs: 0, roots: 0, completions: 0 }
for (let round = 0; round < Number(rounds); round++) {
  await run('mount', ['-o', 'loop', image, mount])
  const { output, cutMs } = await runAndCut(Number(seed) + round * 7919)
  acknowledged.hear(output, cutMs)
  await run('mount', ['-o', 'loop', image, mount])
  const found = await inspect(mount, acknowledged)
  await run('umount', [mount])
  result.wrong.push(...found.wrong)
  result.slowestOpenMs = Math.max(result.slowestOpenMs, found.openMs)
  result.roots += found.roots
  for (const wrong of found.wrong) acknowledged.complete.delete(wrong.split(' ')[1] as string)
}
result.completions = acknowledged.completions
process.stdout.write(JSON.stringify(result))
