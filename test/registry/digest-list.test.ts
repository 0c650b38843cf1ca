import fc from 'fast-check'
import { expect, it } from 'vitest'
import { cidOf, digestOfCid } from '../../src/base/cid.ts'
import { DigestList } from '../../src/registry/tables/digest-list.ts'

it('the digests of ids are in order and each once, whatever came and went', () => {
  const ids = Array.from({ length: 60 }, (_, i) => cidOf(Buffer.from(String(i))))
  const step = fc.record({ how: fc.constantFrom('load', 'add', 'remove', 'ask'), which: fc.nat(59) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), steps => {
      const list = new DigestList()
      const here = new Set<string>()
      for (const { how, which } of steps) {
        const id = ids[which] as string
        if (how === 'ask') list.sorted()
        else list[how as 'load' | 'add' | 'remove'](id)
        if (how === 'remove') here.delete(id)
        else if (how !== 'ask') here.add(id)
      }
      const expected = [...here].map(digestOfCid).sort(Buffer.compare)
      expect(list.sorted().map(digest => Buffer.from(digest).toString('hex'))).toEqual(
        expected.map(digest => Buffer.from(digest).toString('hex')),
      )
    }),
  )
})
