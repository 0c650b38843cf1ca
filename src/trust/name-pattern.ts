// Which package names a certificate grants. A pattern is one of
//
//   *             every name
//   acme/*        every name of a scope
//   acme/tool-*   names of a scope that begin so;  tool-* the same for names without a scope
//   acme/tool     this name alone
//
// A trailing star stands for one or more characters of one name, never for a slash: `tool-*` grants no scoped name.
import { isPackageName } from '../assets/name.ts'

export function isNamePattern(text: string): boolean {
  if (text === '*') return true
  if (text.length > 130) return false
  return isPackageName(text.endsWith('*') ? `${text.slice(0, -1)}x` : text)
}

export function matchesName(pattern: string, name: string): boolean {
  if (pattern === '*') return true
  if (!pattern.endsWith('*')) return pattern === name
  const prefix = pattern.slice(0, -1)
  return name.length > prefix.length && name.startsWith(prefix) && !name.slice(prefix.length).includes('/')
}

export const grantsName = (patterns: readonly string[], name: string): boolean =>
  patterns.some(pattern => matchesName(pattern, name))

/** Whether every name that `pattern` matches is matched by one of `patterns`. */
export const grantsPattern = (patterns: readonly string[], pattern: string): boolean =>
  patterns.some(wider => covers(wider, pattern))

function covers(wider: string, pattern: string): boolean {
  if (wider === '*' || wider === pattern) return true
  if (!pattern.endsWith('*')) return matchesName(wider, pattern)
  if (pattern === '*' || !wider.endsWith('*')) return false
  const [outer, inner] = [wider.slice(0, -1), pattern.slice(0, -1)]
  return inner.startsWith(outer) && !inner.slice(outer.length).includes('/')
}
