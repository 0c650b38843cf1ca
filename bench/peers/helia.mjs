// Helia (js-ipfs) as a peer to measure beside us: it runs where helia is installed, on TCP with Noise and Yamux.
//
//   helia.mjs seed FILE STORE            prints ADDRESS CID; serves until its standard input ends
//   helia.mjs get ADDRESS CID OUT STORE  prints the milliseconds from the request to the file written
import { createReadStream, createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { unixfs } from '@helia/unixfs'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { FsBlockstore } from 'blockstore-fs'
import { LevelDatastore } from 'datastore-level'
import { createHelia } from 'helia'
import { CID } from 'multiformats/cid'

const [mode, ...words] = process.argv.slice(2)
const store = words.at(-1)
const helia = createHelia({
  libp2p: {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: [],
  },
  blockstore: new FsBlockstore(join(store, 'blocks')),
  datastore: new LevelDatastore(join(store, 'data')),
})
await helia.start()
const files = unixfs(helia)

if (mode === 'seed') {
  const cid = await files.addByteStream(createReadStream(words[0], { highWaterMark: 1024 * 1024 }))
  console.log(`${helia.libp2p.getMultiaddrs()[0]} ${cid}`)
  process.stdin.resume().once('end', () => process.exit(0))
} else {
  const [address, cid, out] = words
  await helia.libp2p.dial(multiaddr(address))
  await new Promise(resolve => setTimeout(resolve, 500))
  const started = performance.now()
  await pipeline(Readable.from(files.cat(CID.parse(cid))), createWriteStream(out))
  console.log(performance.now() - started)
  process.exit(0)
}
