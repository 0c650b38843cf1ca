// What the composition root starts in order and stops in reverse.
import type { Log } from './log.ts'

export interface Service {
  start?(): Promise<void>
  /** Safe to call twice and before `start`; bounded in time. */
  stop?(): Promise<void>
}

/** Options that every asynchronous call takes. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

/** Starts in order, undone on failure; stops in reverse, each at most once, whatever another does. */
export function inOrder(services: readonly Service[], log: Log): Required<Service> {
  const started: Service[] = []
  const stop = async () => {
    for (let service = started.pop(); service !== undefined; service = started.pop())
      await service
        .stop?.()
        .catch((error: unknown) => log.error({ error: String(error) }, 'a service did not stop cleanly'))
  }
  return {
    async start() {
      try {
        for (const service of services) {
          started.push(service)
          await service.start?.()
        }
      } catch (error) {
        await stop()
        throw error
      }
    },
    stop,
  }
}
