// What a word is, to the index and to a query alike: a run of letters and digits in lower case, cut after 64 characters.

const maxWordLength = 64
const between = /[^\p{L}\p{N}]+/u

export const wordsOf = (text: string): string[] =>
  text
    .toLowerCase()
    .split(between)
    .filter(word => word !== '')
    .map(word => (word.length <= maxWordLength ? word : word.slice(0, maxWordLength)))

/**
 * A name is found by its parts and by all of them in one, with its scope and without: `acme/word-count` by `acme`,
 * `word`, `count`, `wordcount` and `acmewordcount`.
 */
export function wordsOfName(name: string): string[] {
  const slash = name.indexOf('/')
  const scope = slash === -1 ? [] : wordsOf(name.slice(0, slash))
  const words = wordsOf(name.slice(slash + 1))
  const whole = joined(words)
  return [
    ...scope,
    ...words,
    ...(words.length > 1 ? [whole] : []),
    ...(scope.length > 0 ? [joined([...scope, whole])] : []),
  ]
}

export const joined = (words: readonly string[]): string => words.join('').slice(0, maxWordLength)

/** How many typing errors a word may have: one letter in five, from four letters on, at most two. */
export const editsAllowed = (word: string): number =>
  word.length < 4 ? 0 : Math.min(2, Math.round(word.length / 5))
