// What one should know of a release that was taken all the same: on standard error, so that output stays what it is.
import { harmlessLine } from './text.ts'

export function showWarnings(warnings: readonly string[] = []): void {
  for (const warning of warnings) process.stderr.write(`catalog: warning: ${harmlessLine(warning)}\n`)
}
