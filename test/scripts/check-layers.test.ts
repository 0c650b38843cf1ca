import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryDirectory } from '../temporary.ts'

describe('the layers of the sources', () => {
  const script = new URL('../../scripts/check-layers.ts', import.meta.url).pathname
  const check = async (files: Record<string, string>): Promise<{ code: number | null; text: string }> => {
    const root = temporaryDirectory('catalog-layers-')
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(root, 'src', path, '..'), { recursive: true })
      writeFileSync(join(root, 'src', path), text)
    }
    const child = spawn(process.execPath, [script, root])
    const chunks: Buffer[] = []
    child.stderr.on('data', chunk => chunks.push(chunk))
    const code = await new Promise<number | null>(resolve => child.once('close', resolve))
    return { code, text: Buffer.concat(chunks).toString() }
  }
  const lower = {
    'base/a.ts': '',
    'trust/b.ts': '',
    'trust/inner/c.ts': '',
    'store/d.ts': '',
    'control/e.ts': '',
  }

  it('a tree that keeps the rules passes', async () => {
    const { code, text } = await check({
      ...lower,
      'flows/f.ts':
        "import type { B } from '../trust/b.ts'\nimport { type D } from '../store/d.ts'\nimport { a } from '../base/a.ts'\n// import x from 'leftpad'\nconst text = `import y from 'leftpad'`",
      'node.ts': "import { b } from './trust/b.ts'\nimport { readFile } from 'node:fs/promises'",
      'cli/program.ts':
        "import { e } from '../control/e.ts'\nimport { Command } from 'commander'\nprocess.env",
    })
    expect(text).toContain('0 problems')
    expect(code).toBe(0)
  })

  it.each([
    [
      'base/x.ts',
      "\nimport { b } from '../trust/b.ts'",
      ':2: base (row 0) may not import trust (row 2) (rule 1)',
    ],
    ['store/x.ts', "import { b } from '../trust/b.ts'", 'rule 1'],
    ['store/x.ts', "const b = await import('../trust/b.ts')", 'rule 1'],
    ['store/x.ts', "import {\n  b,\n  c,\n} from '../trust/b.ts'", 'rule 1'],
    ['flows/x.ts', "import { b, type C } from '../trust/b.ts'", 'rule 2'],
    ['node.ts', "import { c } from './trust/inner/c.ts'", 'rule 3'],
    ['trust/index.ts', '', 'rule 3'],
    ['trust/x.ts', "export { b } from './b.ts'", 'rule 3'],
    ['trust/x.ts', "export * from './b.ts'", 'rule 3'],
    ['cli/x.ts', "import type { B } from '../trust/b.ts'", 'rule 4'],
    ['trust/x.ts', "import { createLibp2p } from 'libp2p'", 'rule 5'],
    ['trust/x.ts', "import { y } from '@libp2p/crypto/keys'", 'rule 5'],
    ['trust/x.ts', "require('leftpad')", 'leftpad has no door'],
    ['trust/x.ts', 'process.env.HOME', 'rule 5'],
    ['trust/x.ts', "import fs from 'fs'", 'node:fs'],
    ['misc/x.ts', '', 'no row'],
  ])('%s with %j does not', async (path, text, words) => {
    const result = await check({ ...lower, [path]: text })
    expect(result.text).toContain(words)
    expect(result.text).toContain(`src/${path}:`)
    expect(result.code).toBe(1)
  })

  it('a tree without files does not', async () => {
    expect((await check({})).code).toBe(1)
  })
})
