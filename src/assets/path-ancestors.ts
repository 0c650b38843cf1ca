// The directories that a path of a package lies in.

/** The directories above a path, the nearest first: `a/b`, `a` for `a/b/c`. */
export function ancestorsOf(path: string): string[] {
  const ancestors: string[] = []
  for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1))
    ancestors.push(path.slice(0, slash))
  return ancestors
}
