// `catalog demo`: carried by the row above.
import type { Run } from '../command.ts'

export const run: Run = ({ carriers, json, options }) =>
  carriers.demo({ json, keep: options['keep'] === true })
