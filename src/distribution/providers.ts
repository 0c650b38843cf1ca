// Who may have a content: connected peers, who are cheap to ask, and whoever the DHT names. All of it is a hint;
// only an answer to the transfer protocol tells.
import type { CallOptions } from '../base/lifecycle.ts'
import type { Log } from '../base/log.ts'
import type { Host } from '../network/host.ts'
import type { Router } from '../network/router.ts'
import { defaultLaneOptions, TransferLane } from './transfer-lane.ts'

export interface ProvidersDeps {
  readonly host: Host
  readonly router: Pick<Router, 'findProviders'>
  readonly log: Log
  /** Whom to ask first first; absent: as they come. */
  readonly rank?: (peers: readonly string[]) => readonly string[]
}

/** Connected peers that are asked without the DHT naming them. */
const maxConnectedAsked = 32
const maxHolders = 32

/** Candidates, each once, as they are found: connected peers at once, the DHT's as its lookup goes on. */
export async function* findProviders(
  deps: ProvidersDeps,
  root: string,
  options: CallOptions = {},
): AsyncIterable<string> {
  const seen = new Set<string>([deps.host.peer])
  const connected = [...new Set(deps.host.connections().map(({ peer }) => peer))].filter(
    peer => peer !== deps.host.peer,
  )
  for (const peer of (deps.rank?.(connected) ?? connected).slice(0, maxConnectedAsked)) {
    seen.add(peer)
    yield peer
  }
  for await (const peer of deps.router.findProviders(root, options)) {
    if (seen.has(peer)) continue
    seen.add(peer)
    yield peer
  }
}

/** The peers that answer that they hold the content, within the signal's time. */
export async function holdersOf(
  deps: ProvidersDeps,
  root: string,
  options: CallOptions = {},
): Promise<{ peer: string; complete: boolean }[]> {
  const holders: { peer: string; complete: boolean }[] = []
  const asking: Promise<void>[] = []
  try {
    for await (const peer of findProviders(deps, root, options)) {
      if (asking.length >= maxHolders) break
      asking.push(askHolder(deps, peer, root, options, holders))
    }
  } catch (error) {
    deps.log.debug({ root, error: String(error) }, 'the search for holders ended early')
  }
  await Promise.all(asking)
  return holders
}

async function askHolder(
  deps: ProvidersDeps,
  peer: string,
  root: string,
  options: CallOptions,
  holders: { peer: string; complete: boolean }[],
): Promise<void> {
  try {
    const lane = await TransferLane.open(deps.host, peer, defaultLaneOptions, options)
    const answer = await lane.have(root, options)
    if (answer !== undefined) holders.push({ peer, complete: answer.complete })
    await lane.close()
  } catch (error) {
    deps.log.debug({ root, peer, error: String(error) }, 'a peer did not say whether it holds a content')
  }
}
