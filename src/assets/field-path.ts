// Where a field of a manifest is, as a value and as people write it.

export type FieldPath = readonly (string | number)[]

/** `spec.dependencies[0].version`; a key that is not a plain word is quoted. */
export function formatPath(path: FieldPath): string {
  return path.reduce<string>((all, part) => {
    if (typeof part === 'number') return `${all}[${part}]`
    if (!/^[A-Za-z0-9_-]{1,80}$/.test(part)) return `${all}[${JSON.stringify(part.slice(0, 80))}]`
    return all === '' ? part : `${all}.${part}`
  }, '')
}
