// Which known key a misspelt one most likely means.

/**
 * The known key nearest to `key` by edits (insert, delete, replace, swap of neighbours), where case, dashes and
 * underscores count for nothing; undefined when nothing is near.
 */
export function nearestKey(key: string, known: readonly string[]): string | undefined {
  const plain = plainForm(key)
  if (plain.length > 64) return undefined
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(plain.length / 3)) + 1
  for (const candidate of known) {
    const other = plainForm(candidate)
    const distance = editDistance(plain, other)
    // What shares no letter with a short key is not near it, however few the edits.
    if (distance < bestDistance && distance < Math.max(plain.length, other.length)) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

const plainForm = (key: string) => key.toLowerCase().replaceAll(/[-_ ]/g, '')

/** Optimal string alignment distance (Damerau-Levenshtein without repeated edits of one place). */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const replaced = at(previous, column - 1) + (a[row - 1] === b[column - 1] ? 0 : 1)
      let cost = Math.min(replaced, at(previous, column) + 1, at(current, column - 1) + 1)
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        cost = Math.min(cost, at(before, column - 2) + 1)
      current.push(cost)
    }
    before = previous
    previous = current
  }
  return at(previous, b.length)
}

const at = (row: readonly number[], column: number): number => row[column] ?? Number.POSITIVE_INFINITY
