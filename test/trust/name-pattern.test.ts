import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPackageName } from '../../src/assets/name.ts'
import { grantsName, grantsPattern, isNamePattern, matchesName } from '../../src/trust/name-pattern.ts'

describe('a name pattern', () => {
  it.each(['*', 'tool', 'tool-*', 't*', 'acme/*', 'acme/tool', 'acme/tool-*', 'a/b*', `${'a'.repeat(63)}*`])(
    '%s is one',
    text => {
      expect(isNamePattern(text)).toBe(true)
    },
  )

  it.each([
    '',
    '**',
    '*a',
    '*/tool',
    '*/*',
    'a*b',
    'acme/**',
    'acme/',
    '/',
    '/*',
    '-*',
    'acme/-*',
    'Acme/*',
    'a//*',
    'a/b/*',
    'a/b/c',
    '../*',
    'tool *',
    'tool\n',
    'tool*\n',
    `${'a'.repeat(64)}*`,
    `${'a'.repeat(200)}*`,
    'tööl*',
    'tool?',
  ])('%j is none', text => {
    expect(isNamePattern(text)).toBe(false)
  })

  it.each([
    ['*', ['tool', 'acme/tool', 'a'], []],
    ['acme/*', ['acme/tool', 'acme/t'], ['acme', 'acme-x/tool', 'tool', 'xacme/tool']],
    ['acme/tool-*', ['acme/tool-1', 'acme/tool-a-b'], ['acme/tool', 'acme/tools', 'tool-1', 'other/tool-1']],
    ['tool-*', ['tool-1', 'tool-x'], ['tool', 'tools', 'acme/tool-1', 'tool-x/y']],
    ['a*', ['ab', 'a-b'], ['a', 'acme/tool', 'a/b', 'b']],
    ['tool', ['tool'], ['tools', 'acme/tool', 'too']],
    ['acme/tool', ['acme/tool'], ['acme/tools', 'tool', 'acme']],
  ] as const)('%s matches what it says and no more', (pattern, inside, outside) => {
    for (const name of inside) expect(matchesName(pattern, name), name).toBe(true)
    for (const name of outside) expect(matchesName(pattern, name), name).toBe(false)
  })
})

// A small alphabet, so that prefixes, scopes and names meet often.
const piece = fc.stringMatching(/^[ab](?:[ab-]{0,3}[ab])?$/)
const name = fc.oneof(
  piece,
  fc.tuple(piece, piece).map(parts => parts.join('/')),
)
const pattern = fc
  .oneof(
    fc.constant('*'),
    name,
    name.map(text => `${text}*`),
    piece.map(scope => `${scope}/*`),
    piece.map(text => `${text}-*`),
  )
  .filter(isNamePattern)

describe('patterns within patterns', () => {
  it('grant no name that the wider ones do not', () => {
    let granted = 0
    fc.assert(
      fc.property(
        fc.array(pattern, { maxLength: 3 }),
        pattern,
        fc.array(name, { minLength: 20, maxLength: 20 }),
        (wider, inner, names) => {
          if (!grantsPattern(wider, inner)) return
          granted += 1
          // The names that stand at the pattern's own edge are the ones to get wrong.
          const edge = inner.endsWith('*')
            ? ['a', 'b', 'ab', 'a-b', 'a/a'].map(end => inner.slice(0, -1) + end)
            : [inner]
          for (const each of [...names, ...edge].filter(isPackageName))
            if (matchesName(inner, each))
              expect(grantsName(wider, each), `${inner} in ${wider}: ${each}`).toBe(true)
        },
      ),
      { numRuns: 5000 },
    )
    expect(granted).toBeGreaterThan(300)
  })

  it('are refused only where there is a name to tell them apart', () => {
    fc.assert(
      fc.property(pattern, pattern, (wider, inner) => {
        if (grantsPattern([wider], inner)) return
        const witnesses =
          inner === '*'
            ? ['zz', 'z/z', 'zzz/zzz']
            : inner.endsWith('*')
              ? ['a', 'b', 'z', 'az', 'bz', 'zzzzzzz'].map(end => inner.slice(0, -1) + end)
              : [inner]
        expect(
          witnesses.some(
            each => isPackageName(each) && matchesName(inner, each) && !matchesName(wider, each),
          ),
        ).toBe(true)
      }),
      { numRuns: 5000 },
    )
  })

  it('hold within themselves, and by steps', () => {
    fc.assert(
      fc.property(pattern, pattern, pattern, (first, second, third) => {
        expect(grantsPattern([first], first)).toBe(true)
        if (grantsPattern([first], second) && grantsPattern([second], third))
          expect(grantsPattern([first], third)).toBe(true)
      }),
      { numRuns: 5000 },
    )
  })
})
