// Who refused whom as a member, and why, as a sentence.
import type { RefusalView } from '../control/api.ts'

/** For example `12D3KooW… refuses this node: The node certificate … expired …`. */
export const refusalText = ({ peer, by, message }: RefusalView): string =>
  by === 'peer' ? `${peer} refuses this node: ${message}` : `${peer} is refused by this node: ${message}`
