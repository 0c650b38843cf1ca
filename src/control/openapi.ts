// The OpenAPI document of the control socket, made of the routes' own schemas.
import swagger, { type SwaggerTransform } from '@fastify/swagger'
import type { FastifyInstance, FastifySchema } from 'fastify'
import { z } from 'zod'

export async function describeApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Catalog control socket',
        version,
        description:
          'HTTP/1.1 with JSON over the Unix socket HOME/control.sock. Long work answers with newline-delimited ' +
          'JSON (application/x-ndjson): {"progress":…} or {"event":…} lines, then one {"result":…} or {"error":…}. ' +
          'Closing the connection cancels the work. On the shared socket every request carries Authorization: Bearer TOKEN. Try: curl --unix-socket HOME/control.sock http://catalog/v1/status',
      },
      servers: [{ url: 'http://catalog' }],
    },
    transform: describeRoute,
  })
}

const describeRoute: SwaggerTransform = ({ schema, url, route }) => {
  const described = mapSchemas(schema) as FastifySchema
  const body = route.config?.takesArchive === true ? orArchive(described.body) : described.body
  return {
    schema: {
      ...described,
      ...(body === undefined ? {} : { body }),
      description: `Requires the capability ${route.config?.requires}.`,
    },
    url: url.replace('*', ':path'),
  }
}

const orArchive = (json: unknown) => ({
  content: {
    'application/json': { schema: json },
    'application/x-tar': { schema: { type: 'string', format: 'binary' } },
  },
})

/** Replaces every Zod schema in a route's description by its JSON Schema. */
function mapSchemas(part: unknown): unknown {
  if (part instanceof z.ZodType) return jsonSchema(part)
  if (typeof part !== 'object' || part === null || Array.isArray(part)) return part
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, mapSchemas(value)]))
}

function jsonSchema(schema: z.ZodType): unknown {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  const properties = json.properties
  // The path below a release is the rest of the URL.
  if (properties !== undefined && '*' in properties) {
    const { '*': rest, ...others } = properties
    return { ...json, properties: { ...others, path: rest }, required: [...Object.keys(others), 'path'] }
  }
  return json
}
