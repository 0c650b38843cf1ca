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
  const room = process.stdout.isTTY ? Math.max(20, process.stdout.columns - width) : Number.POSITIVE_INFINITY
  return shown
    .flatMap(([name, value]) =>
      [value]
        .flat()
        .flatMap(line => wrap(harmlessLine(line), room))
        .map((line, index) => `${(index === 0 ? name : '').padEnd(width)}${line}`),
    )
    .join('\n')
}

/** Between words: what has no spaces (an id, an address) must stay whole to be copied. */
function wrap(text: string, room: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= room)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
