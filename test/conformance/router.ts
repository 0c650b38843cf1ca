// What every Router must do: records that are checked and never go back, providers that are found.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cidOf } from '../../src/base/cid.ts'
import { CatalogError } from '../../src/base/errors.ts'
import type {
  Announcement,
  Bulletin,
  KeyspaceRouter,
  RecordKey,
  RecordSelector,
  RecordValidator,
  Router,
} from '../../src/network/router.ts'

export interface RouterNode {
  readonly peer: string
  readonly router: Router & KeyspaceRouter
}

export interface RouterNetwork {
  readonly nodes: readonly RouterNode[]
  stop(): Promise<void>
}

/** A record of these tests: a sequence number, and whether its signature is good. */
export const record = (sequence: number, signature = 'good') =>
  new TextEncoder().encode(JSON.stringify({ sequence, signature }))

const sequenceOf = (value: Uint8Array): number => JSON.parse(new TextDecoder().decode(value)).sequence

export const validate: RecordValidator = async (key, value) => {
  const { signature } = JSON.parse(new TextDecoder().decode(value)) as { signature?: string }
  if (signature !== 'good') throw new CatalogError('bad-signature', 'The record is not signed.')
  if (key.kind === 'release' && key.id !== cidOf(value))
    throw new CatalogError('bad-record', 'The record is not the release of its key.')
}

export const select: RecordSelector = (_key, values) =>
  values.reduce(
    (best, value, i) => (sequenceOf(value) > sequenceOf(values[best] as Uint8Array) ? i : best),
    0,
  )

export const headKey = (name = 'acme/word-count'): RecordKey => ({
  kind: 'head',
  publisher: 'zTestPublisher',
  name,
})

export async function providersOf(router: Router, cid: string): Promise<string[]> {
  const found: string[] = []
  for await (const peer of router.findProviders(cid)) found.push(peer)
  return found.sort()
}

export function routerConformance(name: string, makeNetwork: (size: number) => Promise<RouterNetwork>): void {
  describe(`${name} is a Router`, () => {
    let network: RouterNetwork | undefined
    const nodes = async (size: number): Promise<RouterNode[]> => {
      network = await makeNetwork(size)
      return [...network.nodes]
    }
    afterEach(() => network?.stop())
    beforeEach(() => {
      network = undefined
    })
    const root = cidOf(new TextEncoder().encode('a content root'))

    test('a lone node never hangs: it finds its own records, and tells nobody', async () => {
      const [only] = (await nodes(1)) as [RouterNode]
      expect(await only.router.putRecord(headKey(), record(1))).toBe(0)
      expect(await only.router.getRecord(headKey())).toEqual(record(1))
      expect(await only.router.getRecord(headKey('acme/other'))).toBeUndefined()
      expect(await only.router.provide(root)).toBe(0)
      expect(await providersOf(only.router, root)).toEqual([])
    })

    test('two nodes: what one puts and provides, the other finds', async () => {
      const [a, b] = (await nodes(2)) as [RouterNode, RouterNode]
      expect(await a.router.putRecord(headKey(), record(1))).toBe(1)
      expect(await b.router.getRecord(headKey())).toEqual(record(1))
      const release = record(7)
      const key: RecordKey = { kind: 'release', id: cidOf(release) }
      expect(await a.router.putRecord(key, release)).toBe(1)
      expect(await b.router.getRecord(key)).toEqual(release)
      expect(await a.router.provide(root)).toBe(1)
      expect(await providersOf(b.router, root)).toEqual([a.peer])
    })

    test('five nodes: every one finds a record and every provider but itself', async () => {
      const all = await nodes(5)
      const [first, second] = all as [RouterNode, RouterNode]
      expect(await first.router.putRecord(headKey(), record(3))).toBe(4)
      await first.router.provide(root)
      await second.router.provide(root)
      for (const node of all) {
        expect(await node.router.getRecord(headKey())).toEqual(record(3))
        const others = [first.peer, second.peer].filter(peer => peer !== node.peer).sort()
        expect(await providersOf(node.router, root)).toEqual(others)
      }
    })

    test('a newer record replaces an older one, and never the other way round', async () => {
      const [a, b, c] = (await nodes(3)) as [RouterNode, RouterNode, RouterNode]
      await a.router.putRecord(headKey(), record(1))
      await a.router.putRecord(headKey(), record(2))
      expect(await b.router.getRecord(headKey())).toEqual(record(2))
      const stale = await c.router.putRecord(headKey(), record(1)).catch(error => error.code)
      expect([0, 'stale-record']).toContain(stale)
      for (const node of [a, b, c]) expect(await node.router.getRecord(headKey())).toEqual(record(2))
    })

    test('what a validator refuses is accepted by nobody and given to nobody', async () => {
      const [a, b] = (await nodes(2)) as [RouterNode, RouterNode]
      expect(await a.router.putRecord(headKey(), record(9, 'forged'))).toBe(0)
      expect(await b.router.getRecord(headKey())).toBeUndefined()
      await expect(a.router.putRecord(headKey(), new Uint8Array(200_000))).rejects.toMatchObject({
        code: 'too-large',
      })
    })

    test('a node that no longer provides does not say so itself', async () => {
      const [a] = (await nodes(2)) as [RouterNode, RouterNode]
      await a.router.provide(root)
      await a.router.unprovide(root)
      await a.router.unprovide(root)
      expect(await providersOf(a.router, root)).toEqual([])
    })

    const bulletin = (item: Announcement, value?: Uint8Array): Bulletin => ({
      item,
      told: new Set(),
      accepted: 0,
      ...(value === undefined ? {} : { value }),
    })

    test('many keys are announced with one exploration, and nobody is told twice', async () => {
      const [a, b, c] = (await nodes(3)) as [RouterNode, RouterNode, RouterNode]
      const roots = Array.from({ length: 50 }, (_, i) => cidOf(new TextEncoder().encode(`root ${i}`)))
      const bulletins = [
        ...roots.map(cid => bulletin({ kind: 'provide', cid })),
        bulletin({ kind: 'record', key: headKey() }, record(4)),
      ]
      const region = await a.router.explore(bulletins[0]?.item as Announcement)
      expect(region).toMatchObject({ prefix: '', lookups: 1 })
      expect([...region.peers].sort()).toEqual([b.peer, c.peer].sort())
      await Promise.all([
        a.router.tell(bulletins, a.router.neighbours()),
        a.router.tell(bulletins, region.peers),
      ])
      expect(bulletins.map(({ accepted }) => accepted)).toEqual(bulletins.map(() => 2))
      for (const { router } of [b, c]) {
        expect(await router.getRecord(headKey())).toEqual(record(4))
        expect(await providersOf(router, roots[49] as string)).toEqual([a.peer])
      }
      await a.router.tell(bulletins, region.peers)
      expect(bulletins.every(({ accepted }) => accepted === 2)).toBe(true)
    })

    test('what is refused among many says so, and the others go on', async () => {
      const [a, b] = (await nodes(2)) as [RouterNode, RouterNode]
      const bulletins = [
        bulletin({ kind: 'record', key: headKey('first') }, record(1)),
        bulletin({ kind: 'record', key: headKey('forged') }, record(1, 'forged')),
        bulletin({ kind: 'provide', cid: root }),
        bulletin({ kind: 'record', key: headKey('last') }, record(1)),
      ]
      await a.router.tell(bulletins, [b.peer])
      expect(bulletins.map(({ accepted }) => accepted)).toEqual([1, 0, 1, 1])
      expect(bulletins[1]?.refusal).toBeDefined()
      expect(await b.router.getRecord(headKey('forged'))).toBeUndefined()
      expect(await b.router.getRecord(headKey('last'))).toEqual(record(1))
    })

    test('a lone node explores nothing and tells nobody', async () => {
      const [only] = (await nodes(1)) as [RouterNode]
      const one = bulletin({ kind: 'provide', cid: root })
      expect(only.router.neighbours()).toEqual([])
      expect(await only.router.explore(one.item)).toMatchObject({ prefix: '', peers: [] })
      await only.router.tell([one], [])
      expect(one.accepted).toBe(0)
      expect(only.router.locate(one.item).byteLength).toBe(32)
    })

    test('the signal ends every call with its reason', async () => {
      const [a] = (await nodes(2)) as [RouterNode, RouterNode]
      const signal = AbortSignal.abort(new Error('given up'))
      await expect(a.router.putRecord(headKey(), record(1), { signal })).rejects.toThrow('given up')
      await expect(a.router.getRecord(headKey(), { signal })).rejects.toThrow('given up')
      await expect(a.router.provide(root, { signal })).rejects.toThrow('given up')
      const one = bulletin({ kind: 'provide', cid: root })
      await expect(a.router.explore(one.item, { signal })).rejects.toThrow('given up')
      await expect(a.router.tell([one], [], { signal })).rejects.toThrow('given up')
    })
  })
}
