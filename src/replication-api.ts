// The calls of the control socket about copies: what a REF means, what is kept of it and where, and handing over.
// Keeping copies is distribution/replication.ts.
import type { ContentStore } from './assets/content-store.ts'
import { CatalogError, isCatalogError } from './base/errors.ts'
import type { CallOptions } from './base/lifecycle.ts'
import type { NodeApi, ReplicasView } from './control/api.ts'
import type { Replication } from './distribution/replication.ts'
import type { Release } from './flows/resolve.ts'

type ReplicaState = NonNullable<Awaited<ReturnType<Replication['replicas']>>>

export interface ReplicationApiDeps {
  readonly replication: Replication
  readonly store: Pick<ContentStore, 'state'>
  readonly resolve: (ref: string, options: CallOptions) => Promise<Release>
  /** A release of the content, from what is known here. */
  readonly releaseOf: (root: string) => Promise<Release | undefined>
}

/** The replication calls of NodeApi, and what the others need of it. */
export type ReplicationApi = Pick<NodeApi, 'replicas' | 'setReplicas' | 'drain'> & {
  status: Replication['status']
  /** It was published here, with so many copies or as the config says; resolves to what there is to warn of. */
  published(release: Release, replicas: number | undefined): Promise<readonly string[]>
}

export function createReplicationApi(deps: ReplicationApiDeps): ReplicationApi {
  const { replication, resolve, store } = deps
  return {
    status: () => replication.status(),
    async published(release, replicas) {
      try {
        await replication.keep(keptOf(release), replicas)
        return []
      } catch (error) {
        // Another node has published the same content, and asked for more copies: no reason to undo a release.
        if (!isCatalogError(error, 'forbidden')) throw error
        return [error.message]
      }
    },

    async replicas(ref, options) {
      const release = await resolve(ref, options)
      return viewOf(release, await replication.replicas(release.statement.root, options))
    },

    async setReplicas(ref, { factor }, options) {
      const release = await resolve(ref, options)
      const { root, name } = release.statement
      if (!replication.isOwed(root)) {
        const elsewhere = await replication.replicas(root, options)
        if (elsewhere !== undefined || (await store.state(root)) !== 'complete')
          throw new CatalogError('not-found', notKept(name, elsewhere), { root })
        await replication.keep(keptOf(release), factor)
      } else await replication.setFactor(root, factor)
      return viewOf(release, await replication.replicas(root, options))
    },

    async drain({ undo }, { signal, onProgress }) {
      if (undo === true) {
        await replication.undrain()
        return { draining: false, handedOver: 0, left: [] }
      }
      const { total, left } = await replication.drain({
        signal,
        onProgress: state =>
          onProgress?.({
            phase: 'hand-over',
            message: `${state.total - state.left.length} of ${state.total} packages`,
          }),
      })
      const views: ReplicasView[] = []
      for (const root of left) {
        const release = await deps.releaseOf(root)
        if (release !== undefined) views.push(viewOf(release, await replication.replicas(root, { signal })))
      }
      return { draining: true, handedOver: total - left.length, left: views }
    },
  }
}

const keptOf = ({ id, statement: { root, size } }: Release) => ({ id, root, size })

function notKept(name: string, elsewhere: ReplicaState | undefined): string {
  const nodes = elsewhere?.peers.map(({ peer }) => peer) ?? []
  return nodes.length > 0
    ? `No copy of ${name} is kept on this node, but on ${nodes.join(', ')}. Set the number of copies there.`
    : `${name} is not on this node, so there is nothing to make copies of. Fetch it first with "catalog fetch ${name} --no-out".`
}

function viewOf({ id, statement }: Release, state: ReplicaState | undefined): ReplicasView {
  const { name, version, root, size } = statement
  return {
    ...{ id, name, version, root, size },
    factor: state?.factor ?? 0,
    copies: state?.copies ?? 0,
    peers: (state?.peers ?? []).map(({ checkedAt, ...peer }) => ({
      ...peer,
      ...(checkedAt === undefined ? {} : { checkedAt: new Date(checkedAt).toISOString() }),
    })),
    refusals: state?.refusals ?? [],
  }
}
