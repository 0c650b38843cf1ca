// The files of the control sockets: where they may lie, who may open them, and what an earlier daemon left at their
// paths. What is said on them is server.ts's.
import { chmod, chown, lstat, readFile, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { CatalogError } from '../base/errors.ts'

/** The owner's: only its user can even enter the directory. @throws CatalogError `home-not-owned` */
export async function checkOwnDirectory(socketPath: string): Promise<void> {
  const directory = dirname(socketPath)
  const { uid, mode } = await stat(directory)
  if ((process.getuid !== undefined && uid !== process.getuid()) || (mode & 0o077) !== 0)
    throw new CatalogError(
      'home-not-owned',
      `The control socket must lie in a directory that only you can enter; ${directory} is open to others, or belongs to another user. Run \`chmod 700 ${directory}\`, or use another home.`,
      { directory },
    )
}

/**
 * The shared one: whoever could rename the socket, or anything above it, could put their own there and be given tokens.
 * @throws CatalogError `invalid-config`, `forbidden`
 */
export async function checkSharedDirectory(socketPath: string): Promise<void> {
  for (let path = dirname(socketPath), socketIn = true; ; path = dirname(path), socketIn = false) {
    const { uid, mode } = await stat(path).catch(error => Promise.reject(noDirectory(path, error)))
    const ours = uid === 0 || uid === process.getuid?.()
    // In a sticky directory, such as /tmp, others cannot rename what is not theirs; but they may be there first.
    const closed = (mode & 0o022) === 0 || (!socketIn && (mode & 0o1000) !== 0)
    if (!ours || !closed)
      throw new CatalogError(
        'forbidden',
        `The shared control socket cannot be made at ${socketPath}: ${path} ${ours ? `can be written by others (mode ${(mode & 0o7777).toString(8)})` : `belongs to user ${uid}`}, who could put another in its place. Name a directory of yours in control.shared.path (chmod 755).`,
        { path },
      )
    if (dirname(path) === path) return
  }
}

const noDirectory = (path: string, error: unknown) =>
  new CatalogError(
    'invalid-config',
    `There is no directory ${path} for the shared control socket. Make it (mkdir, chmod 755), or name another in control.shared.path.`,
    { path },
    error,
  )

/** Opens the shared socket to its group. @throws CatalogError `forbidden` */
export async function openToGroup(path: string, group: string | number): Promise<void> {
  const gid = await groupId(group)
  try {
    await chown(path, -1, gid)
    await chmod(path, 0o660)
  } catch (error) {
    throw new CatalogError(
      'forbidden',
      `The shared control socket ${path} could not be given to the group ${group}: ${(error as Error).message}. A daemon that is not root must be a member of the group in control.shared.group.`,
      { path, group },
      error,
    )
  }
}

/** The number of a group, by its name in /etc/group (group(5)). @throws CatalogError `invalid-config` */
export async function groupId(group: string | number): Promise<number> {
  if (/^\d{1,10}$/.test(String(group))) return Number(group)
  const groups = await readFile('/etc/group', 'utf8').catch(() => '')
  const found = groups.split('\n').find(line => line.startsWith(`${group}:`))
  const gid = found?.split(':')[2]
  if (gid === undefined || !/^\d+$/.test(gid))
    throw new CatalogError(
      'invalid-config',
      `There is no group ${JSON.stringify(group)} on this machine (control.shared.group). Make it (groupadd ${group}), or name another; a group that is not in /etc/group is named by its number.`,
      { group },
    )
  return Number(gid)
}

/** A socket that a killed daemon left is removed, a living one is respected, anything else is not ours to remove. */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket())
    throw new CatalogError(
      'output-exists',
      `There is something at ${path} that is no socket. Move it away.`,
      { path },
    )
  if (await answers(path))
    throw new CatalogError(
      'already-running',
      `A daemon is listening at ${path} already. Use it, or stop it first.`,
      { path },
    )
  await rm(path, { force: true })
}

const answers = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect(path)
    const finish = (result: boolean) => {
      socket.destroy()
      resolve(result)
    }
    socket.once('connect', () => finish(true))
    // A full backlog (EAGAIN) is a living daemon's.
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code === 'EAGAIN'))
    socket.setTimeout(1_000, () => finish(true))
  })
