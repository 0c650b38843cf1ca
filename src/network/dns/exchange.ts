// One question to one DNS server: over UDP, and over TCP where the answer does not fit (RFC 1035, 4.2; RFC 7766).
// The socket is connected and its port and the query's id are random, so only the server, or who guesses both, is heard.
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { raceAbort } from '../../base/deadline.ts'
import type { DnsServer } from '../../base/network-name.ts'
import { decodeAnswer, encodeQuery, maxMessageBytes, type TxtAnswer } from './message.ts'

export interface ExchangeOptions {
  readonly signal: AbortSignal
  /** A packet that got lost is sent again after this long, until the signal ends it. */
  readonly resendMs: number
}

/** @throws Error where the server cannot be reached or its answer is malformed, or the signal's reason */
export async function askServer(
  server: DnsServer,
  name: string,
  options: ExchangeOptions,
): Promise<TxtAnswer> {
  const answer = await overUdp(server, name, options)
  return answer.truncated ? overTcp(server, name, options) : answer
}

function overUdp(server: DnsServer, name: string, { signal, resendMs }: ExchangeOptions): Promise<TxtAnswer> {
  const id = randomInt(0x1_0000)
  const query = encodeQuery(id, name)
  const { promise, resolve, reject } = Promise.withResolvers<TxtAnswer>()
  const socket = createSocket(isIPv6(server.host) ? 'udp6' : 'udp4')
  let again: NodeJS.Timeout | undefined
  socket.on('error', reject)
  socket.on('message', bytes => {
    try {
      const answer = decodeAnswer(bytes, id, name)
      if (answer !== undefined) resolve(answer)
    } catch (error) {
      reject(error as Error)
    }
  })
  socket.connect(server.port, server.host, () => {
    const send = () => socket.send(query)
    send()
    again = setInterval(send, resendMs)
  })
  return raceAbort(promise, signal).finally(() => {
    clearInterval(again)
    // Its errors are answered for; a late one must not end the process.
    socket.removeAllListeners('message').close()
  })
}

function overTcp(server: DnsServer, name: string, { signal }: ExchangeOptions): Promise<TxtAnswer> {
  const id = randomInt(0x1_0000)
  const query = encodeQuery(id, name)
  const { promise, resolve, reject } = Promise.withResolvers<TxtAnswer>()
  const socket = connect(server.port, server.host)
  let received = Buffer.alloc(0)
  socket.on('error', reject)
  socket.on('end', () => reject(new Error('it closed the connection before its answer was whole')))
  socket.on('connect', () => socket.write(Buffer.concat([lengthOf(query), query])))
  socket.on('data', chunk => {
    try {
      received = Buffer.concat([received, chunk])
      if (received.length < 2) return
      const length = received.readUInt16BE(0)
      if (length > maxMessageBytes)
        throw new Error(`the answer has ${length} bytes; at most ${maxMessageBytes} are read`)
      if (received.length < 2 + length) return
      const answer = decodeAnswer(received.subarray(2, 2 + length), id, name)
      if (answer === undefined || answer.truncated)
        throw new Error('what came over TCP is not the answer to the question')
      resolve(answer)
    } catch (error) {
      reject(error as Error)
    }
  })
  return raceAbort(promise, signal).finally(() => socket.destroy())
}

function lengthOf(query: Uint8Array): Buffer {
  const prefix = Buffer.alloc(2)
  prefix.writeUInt16BE(query.length)
  return prefix
}
