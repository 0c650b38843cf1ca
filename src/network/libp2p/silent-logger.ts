// libp2p's own logging, switched off: what matters is logged by our services, and formatting what nobody reads costs
// time on every frame.
import type { ComponentLogger, Logger } from '@libp2p/interface'

const nothing = () => undefined
const silent: Logger = Object.assign(nothing, {
  error: nothing,
  trace: nothing,
  enabled: false,
  newScope: () => silent,
})

export const silentLogger: ComponentLogger = { forComponent: () => silent }
