// Facts about one thing for people: names and values, aligned.
import { harmlessLine } from './text.ts'

const gap = 2

/** Names and values, one a line; a value with several lines stays in its column, an absent one is left out. */
export function formatFacts(
  facts: readonly (readonly [name: string, value: string | readonly string[] | undefined])[],
): string {
  const shown = facts.filter(
    (fact): fact is [string, string | string[]] => fact[1] !== undefined && fact[1].length > 0,
  )
  const width = Math.max(...shown.map(([name]) => name.length)) + gap
  return shown
    .flatMap(([name, value]) =>
      [value].flat().map((line, index) => `${(index === 0 ? name : '').padEnd(width)}${harmlessLine(line)}`),
    )
    .join('\n')
}
