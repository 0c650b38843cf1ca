// What the network is told of a release that this node holds: its record, its name's head, that this node provides
// its content, and that it knows the name. Durable in the announcement queue; told, and told again, from there.
import type { Announcement } from '../network/router.ts'
import { nameTopic } from './name-topic.ts'
import type { Release } from './resolve.ts'

export interface AnnounceDeps {
  readonly announcer: {
    add(item: Announcement): Promise<void>
    ensure(item: Announcement): Promise<void>
    remove(item: Announcement): Promise<void>
  }
}

/** Durable when it resolves, and told at once, also what was told before: a head may have changed. */
export async function announce({ announcer }: AnnounceDeps, release: Release): Promise<void> {
  await Promise.all(announcementsOf(release).map(item => announcer.add(item)))
}

/** This node provides the content, or does no more; what is told of its release stays. */
export const announceContent = ({ announcer }: AnnounceDeps, root: string): Promise<void> =>
  announcer.ensure({ kind: 'provide', cid: root })
export const withdrawContent = ({ announcer }: AnnounceDeps, root: string): Promise<void> =>
  announcer.remove({ kind: 'provide', cid: root })

/** For what is held and should have been announced: what a crash kept out of the queue is put there. */
export async function ensureAnnounced({ announcer }: AnnounceDeps, release: Release): Promise<void> {
  for (const item of announcementsOf(release)) await announcer.ensure(item)
}

function announcementsOf({ id, statement: { publisher, name, root } }: Release): readonly Announcement[] {
  return [
    { kind: 'record', key: { kind: 'release', id } },
    { kind: 'record', key: { kind: 'head', publisher, name } },
    { kind: 'provide', cid: root },
    { kind: 'provide', cid: nameTopic(name) },
  ]
}

/** The head and the name stay announced while this node holds another release of the name. */
export async function withdraw(
  { announcer }: AnnounceDeps,
  { id, statement: { publisher, name, root } }: Release,
  keep: { readonly content: boolean; readonly name: boolean },
): Promise<void> {
  await announcer.remove({ kind: 'record', key: { kind: 'release', id } })
  if (!keep.content) await announcer.remove({ kind: 'provide', cid: root })
  if (keep.name) return
  await announcer.remove({ kind: 'record', key: { kind: 'head', publisher, name } })
  await announcer.remove({ kind: 'provide', cid: nameTopic(name) })
}
