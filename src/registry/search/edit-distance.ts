// How many typing errors lie between two words: letters inserted, left out, replaced, or two neighbours swapped
// (the optimal string alignment distance, after Damerau 1964). Bounded, because only small distances matter.

const rowLength = 256
let before = new Uint8Array(rowLength)
let above = new Uint8Array(rowLength)
let row = new Uint8Array(rowLength)

/** The distance, or `max + 1` when it is more than `max`. Words have at most 255 characters. */
export function editDistance(a: string, b: string, max: number): number {
  if (Math.abs(a.length - b.length) > max) return max + 1
  for (let column = 0; column <= b.length; column++) row[column] = column
  for (let i = 1; i <= a.length; i++) {
    ;[before, above, row] = [above, row, before]
    row[0] = i
    let least = i
    const letter = a.charCodeAt(i - 1)
    for (let j = 1; j <= b.length; j++) {
      const other = b.charCodeAt(j - 1)
      let distance = Math.min(
        at(above, j) + 1,
        at(row, j - 1) + 1,
        at(above, j - 1) + (letter === other ? 0 : 1),
      )
      if (i > 1 && j > 1 && letter === b.charCodeAt(j - 2) && a.charCodeAt(i - 2) === other)
        distance = Math.min(distance, at(before, j - 2) + 1)
      row[j] = distance
      if (distance < least) least = distance
    }
    // No row has a smaller least value than the row above it: a swap costs one more than what it starts from.
    if (least > max) return max + 1
  }
  return Math.min(at(row, b.length), max + 1)
}

const at = (values: Uint8Array, place: number): number => values[place] as number
