import { setImmediate } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { CheckBatches } from '../../src/trust/check-batches.ts'
import { ed25519 } from '../../src/trust/ed25519-scheme.ts'
import { faultySignature, type SignatureCheck } from '../../src/trust/signature-check.ts'

// A check with no Falcon signature: where the Ed25519 signature holds, it fails by the other.
const { publicKey, secretKey } = ed25519.generate()
function checkOf(text: string, honest: boolean): SignatureCheck {
  const message = Buffer.from(text)
  const signature = ed25519.sign(honest ? message : Buffer.from('another'), secretKey)
  return {
    message,
    ed25519: { key: publicKey, signature },
    falcon: { key: new Uint8Array(0), signature: new Uint8Array(0) },
  }
}

describe('batches of signature checks', () => {
  let sent: number[]
  const checkAll = async (checks: readonly SignatureCheck[]) => {
    sent.push(checks.length)
    await setImmediate()
    if (checks.some(({ message }) => Buffer.from(message).toString() === 'deadly'))
      throw new Error('the thread died')
    return checks.map(faultySignature)
  }
  beforeEach(() => {
    sent = []
  })

  it('answer each with its own outcome, in no more messages than needed', async () => {
    const batches = new CheckBatches({ checkAll }, { maxBatch: 4 })
    const honest = Array.from({ length: 10 }, (_, at) => at % 3 !== 0)
    const answers = await Promise.all(honest.map((is, at) => batches.check(checkOf(`${at}`, is))))
    expect(answers).toEqual(honest.map(is => (is ? 'falcon-1024-r3' : 'ed25519')))
    expect(sent).toEqual([4, 4, 2])
  })

  it('send at once what comes alone, one message at a time', async () => {
    const batches = new CheckBatches({ checkAll })
    for (let at = 0; at < 3; at++) await batches.check(checkOf(`${at}`, true))
    expect(sent).toEqual([1, 1, 1])
  })

  it('fail with the thread only as far as it was asked, and go on', async () => {
    const batches = new CheckBatches({ checkAll }, { maxBatch: 2 })
    const outcomes = await Promise.allSettled(
      ['a', 'deadly', 'b', 'c'].map(text => batches.check(checkOf(text, true))),
    )
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled', 'fulfilled'])
    expect(await batches.check(checkOf('later', false))).toBe('ed25519')
  })

  it('refuse more than may wait, and take others once there is room', async () => {
    const batches = new CheckBatches({ checkAll }, { maxWaiting: 2 })
    const accepted = [batches.check(checkOf('a', true)), batches.check(checkOf('b', true))]
    await expect(batches.check(checkOf('c', true))).rejects.toMatchObject({ code: 'busy' })
    await Promise.all(accepted)
    expect(await batches.check(checkOf('c', true))).toBe('falcon-1024-r3')
  })
})
