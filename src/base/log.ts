// The shape of the logger that services take: pino's, and a silent one for tests.
// `error` needs a person, `warn` may, `info` is a rare state change, `debug` is per request.

type LogLine = (fields: Record<string, unknown>, message: string) => void

export interface Log {
  readonly error: LogLine
  readonly warn: LogLine
  readonly info: LogLine
  readonly debug: LogLine
}

const nothing: LogLine = () => undefined
export const silentLog: Log = { error: nothing, warn: nothing, info: nothing, debug: nothing }
