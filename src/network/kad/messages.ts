// The messages of the kad-dht protocol that this node writes itself, because kad-dht opens a stream for each: PUT_VALUE,
// ADD_PROVIDER and PING, in protobuf with a varint length before each (https://github.com/libp2p/specs/tree/master/kad-dht).
// PUT_VALUE is answered by an equal message; ADD_PROVIDER is not answered, so a PING, which is, follows it.
import { CatalogError } from '../../base/errors.ts'

/** Numbers of `Message.MessageType`. */
export const messageTypes = { putValue: 0, addProvider: 2, ping: 5 } as const

export interface KadAnswer {
  readonly type: number
  readonly record?: Uint8Array
}

export const putValueMessage = (key: Uint8Array, record: Uint8Array): Uint8Array =>
  delimited([...field(2, key), ...field(3, record)])

export function addProviderMessage(
  key: Uint8Array,
  peer: Uint8Array,
  addresses: readonly Uint8Array[],
): Uint8Array {
  const info = Buffer.concat([...field(1, peer), ...addresses.flatMap(address => field(2, address))])
  return delimited([typeField(messageTypes.addProvider), ...field(2, key), ...field(9, info)])
}

export const pingMessage = (): Uint8Array => delimited([typeField(messageTypes.ping)])

/** Type and record of an answer; other fields are passed over. @throws CatalogError `bad-peer-message` */
export function parseAnswer(bytes: Uint8Array): KadAnswer {
  let offset = 0
  let type = messageTypes.putValue as number
  let record: Uint8Array | undefined
  const varint = (): number => {
    for (let value = 0, place = 0; place < 5; place++) {
      const byte = bytes[offset++]
      if (byte === undefined) break
      value += (byte & 0x7f) * 0x80 ** place
      if (byte < 0x80) return value
    }
    throw new CatalogError(
      'bad-peer-message',
      'A peer answered in the DHT with a message that cannot be read.',
    )
  }
  while (offset < bytes.byteLength) {
    const tag = varint()
    const value = varint()
    if ((tag & 7) === 0) {
      if (tag >>> 3 === 1) type = value
      continue
    }
    if ((tag & 7) !== 2 || offset + value > bytes.byteLength)
      throw new CatalogError('bad-peer-message', 'A peer answered in the DHT with a field that is not one.')
    if (tag >>> 3 === 3) record = bytes.subarray(offset, offset + value)
    offset += value
  }
  return { type, ...(record === undefined ? {} : { record }) }
}

const typeField = (type: number): Uint8Array => Uint8Array.of(0x08, type)

const field = (number: number, value: Uint8Array): Uint8Array[] => [
  Uint8Array.from([(number << 3) | 2, ...varintBytes(value.byteLength)]),
  value,
]

function delimited(parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0)
  return new Uint8Array(Buffer.concat([Uint8Array.from(varintBytes(length)), ...parts]))
}

function varintBytes(value: number): number[] {
  const bytes: number[] = []
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80)
  return [...bytes, value]
}
