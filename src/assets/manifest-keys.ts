// Which keys the manifest's schema knows, and where: what a misspelt or misplaced key most likely means.
import { z } from 'zod'
import { type FieldPath, formatPath } from './field-path.ts'
import { manifestSchema } from './manifest.ts'
import { nearestKey } from './nearest-key.ts'

/** What would be right instead of an unknown key: the nearest known one, else its place, else what there is. */
export function insteadOf(key: string, parent: FieldPath): string {
  const known = knownKeys(parent)
  return nearestKey(key, known) ?? placesOfKey.get(key)?.join(' or ') ?? `one of ${known.join(', ')}`
}

function knownKeys(path: FieldPath): string[] {
  let schema = unwrap(manifestSchema)
  for (const part of path) {
    if (schema instanceof z.ZodArray) schema = unwrap(schema.element as z.ZodType)
    else if (schema instanceof z.ZodObject) schema = unwrap(schema.shape[part] as z.ZodType)
  }
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
}

function unwrap(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodExactOptional
    ? unwrap(schema.unwrap() as z.ZodType)
    : schema
}

/** Every key of the model with the maps it belongs to: a key in the wrong place is told where it goes. */
const placesOfKey = (() => {
  const places = new Map<string, string[]>()
  const visit = (wrapped: z.ZodType, path: FieldPath): void => {
    const schema = unwrap(wrapped)
    if (!(schema instanceof z.ZodObject)) return
    for (const [key, field] of Object.entries(schema.shape)) {
      const here = [...path, key]
      places.set(key, [...(places.get(key) ?? []), formatPath(here)])
      visit(field as z.ZodType, here)
    }
  }
  visit(manifestSchema, [])
  return places
})()
