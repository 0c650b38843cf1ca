// The suites of @libp2p/interface-compliance-tests over our QUIC transport, every case as it comes: the transport
// suite, and the stream-muxer suite over real connections (quic-pair.ts says what that suite's wishes cost).
import { networkInterfaces } from 'node:os'
import './mocha.ts'
import muxerSuite from '@libp2p/interface-compliance-tests/stream-muxer'
import transportSuite, { type TransportTestFixtures } from '@libp2p/interface-compliance-tests/transport'
import { afterAll, describe } from 'vitest'
import { isQuicAddress } from '../../src/network/libp2p/quic/addresses.ts'
import { loadQuicBinding } from '../../src/network/libp2p/quic/binding.ts'
import { quic } from '../../src/network/libp2p/quic/transport.ts'
import { AnnouncedPairs } from './quic-pair.ts'

const binding = await loadQuicBinding()

function transportFixtures(address: string): {
  setup(): Promise<TransportTestFixtures>
  teardown(): Promise<void>
} {
  const matcher = { matches: isQuicAddress, exactMatch: isQuicAddress }
  const dialer = { transports: [quic(binding)], connectionMonitor: { enabled: false } }
  const listener = { ...dialer, addresses: { listen: [address, address] } }
  const fixtures = { dialer, listener, dialMultiaddrMatcher: matcher, listenMultiaddrMatcher: matcher }
  return { setup: async () => fixtures as never, teardown: async () => undefined }
}

describe('QUIC over IPv4', () => transportSuite(transportFixtures('/ip4/0.0.0.0/udp/0/quic-v1')))

const hasIpv6 = Object.values(networkInterfaces()).some(each => each?.some(({ family }) => family === 'IPv6'))
describe.skipIf(!hasIpv6)('QUIC over IPv6', () => transportSuite(transportFixtures('/ip6/::/udp/0/quic-v1')))

describe('the streams of a QUIC connection', () => {
  const pairs = new AnnouncedPairs(binding)
  afterAll(() => pairs.stop())
  muxerSuite({ setup: () => pairs.nextFactory(), teardown: async () => undefined })
})
