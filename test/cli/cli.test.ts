import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { errorTable, exitCodes } from '../../src/base/errors.ts'
import { commands } from '../../src/cli/commands.ts'
import { formatTable } from '../../src/cli/table.ts'
import { formatBytes, formatDuration, harmless } from '../../src/cli/text.ts'
import { MemoryNode } from '../control/memory-node.ts'
import { temporaryDirectory } from '../temporary.ts'
import { openShell, type Shell } from './shell.ts'

const node = new MemoryNode()
let shell: Shell

beforeAll(async () => {
  shell = await openShell(node)
  node.add('word-count', '1.2.0', new Map([['main.py', Buffer.from('print(1)')]]))
  node.add('acme/hostile', '0.1.0', new Map([['a', Buffer.alloc(5_000_000)]]))
})
afterAll(() => shell.close())

const catalog = (args: readonly string[], input?: string | Buffer) => shell.run(args, input)

describe('help', () => {
  it('lists every command and every exit code', async () => {
    const { code, stdout } = await catalog(['--help'])
    expect(code).toBe(0)
    for (const { name } of commands) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
    for (const exit of Object.keys(exitCodes)) expect(stdout).toMatch(new RegExp(`^ +${exit}  `, 'm'))
    expect(Math.max(...stdout.split('\n').map(line => line.length))).toBeLessThanOrEqual(80)
    expect((await catalog(['help'])).stdout).toBe(stdout)
    expect((await catalog(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect((await catalog([])).stdout).toContain('Usage: catalog')
  })

  it('of every command has examples, and needs neither home nor daemon', async () => {
    const env = { CATALOG_HOME: '/no/such/home' }
    const texts = await Promise.all(commands.map(({ name }) => shell.start([name, '--help'], env).ended))
    for (const [index, { code, stdout }] of texts.entries()) {
      expect(code).toBe(0)
      expect(stdout).toContain(`Usage: catalog ${commands[index]?.name}`)
      expect(stdout).toContain('Examples:')
      expect(stdout).toContain('--home <dir>')
    }
    expect((await catalog(['help', 'fetch'])).stdout).toContain('Usage: catalog fetch')
  })

  it('of exit codes covers every error', async () => {
    const { stdout } = await catalog(['help', 'exit-codes'])
    for (const { exit } of Object.values(errorTable)) expect(stdout).toMatch(new RegExp(`^ +${exit}  `, 'm'))
  })
})

describe('a wrong command line', () => {
  it.each([
    [['lost'], 'unknown-command'],
    [['list', '--bogus'], 'invalid-request'],
    [['show'], 'invalid-request'],
    [['show', 'a', 'b'], 'invalid-request'],
    [['search', 'a', '--limit', 'many'], 'invalid-request'],
    [['help', 'lost'], 'unknown-command'],
    [['completion', 'tcsh'], 'invalid-request'],
  ])('%j ends with 2', async (args, error) => {
    const text = await catalog(args)
    expect([text.code, text.stdout]).toEqual([2, ''])
    expect(text.stderr).toMatch(/^catalog: [A-Z].*\n$/)
    const json = await catalog([...args, '--json'])
    expect([json.code, json.stdout]).toEqual([2, ''])
    expect(JSON.parse(json.stderr)).toEqual({ error: { code: error, message: expect.any(String) } })
  })

  it('a near miss is suggested', async () => {
    expect((await catalog(['serch', 'x'])).stderr).toContain('search')
  })
})

describe('without a daemon', () => {
  it.each(['status', 'peers', 'list', 'executions'])(
    '%s says how to start it, and ends with 5',
    async name => {
      const { code, stdout, stderr } = await shell.start([name, '--home', '/no/such/home']).ended
      expect([code, stdout]).toEqual([5, ''])
      expect(stderr).toContain('catalog daemon')
      expect(stderr).not.toMatch(/\n\s+at /)
    },
  )
})

describe('with --json', () => {
  it.each([
    [['status'], { peerId: '12D3KooWMemory' }],
    [['peers'], { peers: [{ transport: 'quic' }] }],
    [['list'], { releases: [{ name: 'word-count' }, { name: 'acme/hostile' }] }],
    [['search', 'word'], { results: [{ name: 'word-count', score: 1 }] }],
    [['show', 'word-count'], { name: 'word-count', providers: [{ complete: true }] }],
    [['executions'], { executions: expect.any(Array) }],
  ])('%j prints one object', async (args, shape) => {
    for (const line of [
      [...args, '--json'],
      ['--json', ...args],
    ]) {
      const { code, stdout, stderr } = await catalog(line)
      expect([code, stderr]).toEqual([0, ''])
      expect(stdout.split('\n')).toHaveLength(2)
      expect(JSON.parse(stdout)).toMatchObject(shape)
    }
  })

  it('an unknown release is an error on standard error, with 4', async () => {
    const { code, stdout, stderr } = await catalog(['show', 'nothing', '--json'])
    expect([code, stdout]).toEqual([4, ''])
    expect(JSON.parse(stderr).error).toMatchObject({ code: 'not-found', ref: 'nothing' })
  })
})

describe('publish and fetch', () => {
  it('publish takes a path from where it stands', async () => {
    mkdirSync(join(shell.home, 'greeting'))
    writeFileSync(join(shell.home, 'greeting', 'catalog.yaml'), 'x')
    const { code, stdout, stderr } = await catalog(['publish', './greeting'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^Published greeting 1\.0\.0: 1 B in 1 file, 12 ms\nId {4}bafyr4i/)
    expect(stderr).toBe('warning: no tags\n')
    expect(JSON.parse((await catalog(['publish', 'greeting', '--json'])).stdout)).toMatchObject({
      name: 'greeting',
      files: 1,
    })
    expect((await catalog(['publish', 'nowhere'])).code).toBe(4)
  })

  it('fetch writes to ./name-version, --out or only into the store', async () => {
    expect(JSON.parse((await catalog(['fetch', 'word-count', '--json'])).stdout)).toMatchObject({
      name: 'word-count',
      out: join(shell.home, 'word-count-1.2.0'),
      providers: [{ bytes: 8 }],
    })
    expect(JSON.parse((await catalog(['fetch', 'word-count', '--out', 'x/y', '--json'])).stdout).out).toBe(
      join(shell.home, 'x/y'),
    )
    expect(
      JSON.parse((await catalog(['fetch', 'word-count', '--no-out', '--json'])).stdout),
    ).not.toHaveProperty('out')
    expect((await catalog(['fetch', 'word-count'])).stdout).toMatch(
      /^Fetched word-count 1\.2\.0: 8 B in 1 file, 40 ms\n {2}8 B from 1 provider, 200 B\/s\n/,
    )
  })

  it('one REF that fails is the command’s error; of several each has its result', async () => {
    const one = await catalog(['fetch', 'nothing', '--json'])
    expect([one.code, one.stdout]).toEqual([4, ''])
    expect(JSON.parse(one.stderr).error).toMatchObject({ code: 'not-found', ref: 'nothing' })
    const several = await catalog(['fetch', 'word-count', 'nothing', '--json'])
    expect(several.code).toBe(4)
    expect(JSON.parse(several.stdout).results).toMatchObject([
      { name: 'word-count' },
      { ref: 'nothing', error: { code: 'not-found' } },
    ])
    expect((await catalog(['fetch', 'word-count', 'acme/hostile', '--json'])).code).toBe(0)
  })
})

describe('execute', () => {
  const runOf = async (...args: string[]) => catalog(['execute', 'word-count', '--', ...args])

  it('the payload’s output and exit code are its own', async () => {
    expect(await runOf('hello', '--fast', '--json')).toEqual({
      code: 0,
      stdout: 'hello --fast --json\n',
      stderr: 'to stderr\n',
    })
    expect((await runOf('exit', '7')).code).toBe(7)
    expect((await runOf('signal', '9')).code).toBe(137)
  })

  it('takes input from a file or its own, and variables', async () => {
    writeFileSync(join(shell.home, 'input.txt'), 'from a file')
    expect((await catalog(['execute', 'word-count', '--input', 'input.txt'])).stdout).toBe('\nfrom a file')
    expect(
      (
        await catalog(
          ['execute', 'word-count', '--input', '-', '--env', 'A=1', '--env', 'B=x=y'],
          'from here',
        )
      ).stdout,
    ).toBe('\nA=1\nB=x=y\nfrom here')
    expect((await catalog(['execute', 'word-count'], 'not read')).stdout).toBe('\n')
  })

  it('with --json is one object, bytes that are no text as base64', async () => {
    const { code, stdout } = await catalog(['execute', 'word-count', '--json', '--', 'exit', '3'])
    expect(code).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject({
      id: expect.any(String),
      release: expect.any(String),
      peer: '12D3KooWMemory',
      state: 'failed',
      exitCode: 3,
      stdout: 'exit 3\n',
      stderr: 'to stderr\n',
    })
    expect(
      JSON.parse((await catalog(['execute', 'word-count', '--json', '--', 'binary'])).stdout).stdoutBase64,
    ).toBe('//4A')
  })

  it('its own failures end with 125', async () => {
    const missing = await catalog(['execute', 'nothing', '--json'])
    expect([missing.code, JSON.parse(missing.stderr).error.code]).toEqual([125, 'not-found'])
    expect((await catalog(['execute'])).code).toBe(125)
    expect((await catalog(['execute', 'word-count', '--bogus'])).code).toBe(125)
    expect((await catalog(['execute', 'word-count', '--env', 'novalue'])).code).toBe(125)
    expect((await catalog(['execute', 'word-count', '--input', 'absent.txt'])).code).toBe(125)
    expect((await shell.start(['execute', 'x', '--home', '/no/such/home']).ended).code).toBe(125)
    const lost = await catalog(['execute', 'word-count', '--json', '--', 'lose'])
    expect([lost.code, JSON.parse(lost.stdout).state, JSON.parse(lost.stderr).error.code]).toEqual([
      125,
      'lost',
      'execution-lost',
    ])
  })

  it('Ctrl-C cancels it', async () => {
    const { child, ended } = shell.start(['execute', 'word-count', '--', 'sleep'])
    await new Promise(resolve => child.stdout.once('data', resolve))
    child.kill('SIGINT')
    const { code, stderr } = await ended
    expect([code, stderr.endsWith('catalog: Cancelled.\n')]).toEqual([130, true])
    await vi.waitFor(() => expect([...node.runs.values()].at(-1)?.view.state).toBe('cancelled'))
  })

  it('Ctrl-C ends the wait for its input', async () => {
    const { child, ended } = shell.start(['execute', 'word-count', '--input', '-'])
    await new Promise(resolve => setTimeout(resolve, 1_000))
    child.kill('SIGINT')
    expect((await ended).code).toBe(130)
  })

  it('detached it prints its id, to be followed, cancelled and read', async () => {
    const { code, stdout } = await catalog(['execute', 'word-count', '--detach', '--', 'sleep'])
    const id = stdout.trim()
    expect([code, node.runs.has(id)]).toEqual([0, true])
    expect((await catalog(['result', id])).code).toBe(6)
    expect(JSON.parse((await catalog(['executions', id, '--json'])).stdout).state).toBe('running')
    expect((await catalog(['cancel', id])).stdout).toContain('cancelled')
    const logs = await catalog(['logs', id, '--follow'])
    expect([logs.stdout, logs.stderr]).toEqual(['sleep\n', 'to stderr\n'])
    const lines = (await catalog(['logs', id, '-f', '--json'])).stdout.trim().split('\n')
    expect(lines.map(line => JSON.parse(line))).toContainEqual({ stream: 'stdout', text: 'sleep\n' })
    expect(JSON.parse((await catalog(['result', id, '--out', 'outputs', '--json'])).stdout).out).toBe(
      join(shell.home, 'outputs'),
    )
    expect((await catalog(['logs', 'run-none'])).code).toBe(4)
  })

  it('a reader that leaves early is no failure', async () => {
    const { child, ended } = shell.start(['execute', 'word-count', '--', 'flood', '5000000'])
    child.stdout.once('data', () => child.stdout.destroy())
    expect((await ended).stderr).not.toContain('EPIPE')
  })
})

describe('validate', () => {
  const manifest =
    'apiVersion: catalog.v1\nkind: AssetPackage\nmetadata:\n  name: tiny\n  version: 1.0.0\nspec:\n  description: Tiny\n'
  const write = (text: string): string => {
    const path = temporaryDirectory('catalog-package-')
    writeFileSync(join(path, 'catalog.yaml'), text)
    return path
  }

  it('accepts a package without home or daemon', async () => {
    const { code, stdout } = await shell.start([
      'validate',
      write(manifest),
      '--json',
      '--home',
      '/no/such/home',
    ]).ended
    expect([code, JSON.parse(stdout)]).toEqual([0, { valid: true, name: 'tiny', version: '1.0.0' }])
  })

  it('names every problem with its place', async () => {
    const path = write(manifest.replace('1.0.0', 'one').replace('description', 'descripton'))
    const text = await catalog(['validate', path])
    expect([text.code, text.stdout]).toEqual([3, ''])
    const lines = text.stderr.trim().split('\n')
    expect(lines[0]).toMatch(new RegExp(`^${path}/catalog.yaml:5:12: metadata.version: .*\\(expected `))
    expect(lines.at(-1)).toMatch(/^catalog: .*catalog.yaml has \d problems/)
    const { error } = JSON.parse((await catalog(['validate', path, '--json'])).stderr)
    expect(error.code).toBe('invalid-manifest')
    expect(error.problems[0]).toEqual({
      path: 'metadata.version',
      line: 5,
      column: 12,
      message: expect.any(String),
      expected: expect.any(String),
    })
  })

  it('a path that is not there ends with 4', async () => {
    expect((await catalog(['validate', '/no/such/package'])).code).toBe(4)
  })
})

describe('completion', () => {
  it('for bash parses, and completes commands, options, values and paths', async () => {
    const script = join(shell.home, 'completion.bash')
    writeFileSync(script, (await catalog(['completion', 'bash'])).stdout)
    const complete = async (...words: string[]): Promise<string[]> => {
      const list = words.map(word => `'${word}'`).join(' ')
      const code = `set -eu; compopt() { :; }; source ${script}; COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _catalog; printf '%s\\n' "\${COMPREPLY[@]}"`
      const child = spawn('bash', ['-c', code], { cwd: shell.home })
      const chunks: Buffer[] = []
      child.stdout.on('data', chunk => chunks.push(chunk))
      child.stderr.on('data', chunk => chunks.push(chunk))
      await new Promise(resolve => child.once('close', resolve))
      return Buffer.concat(chunks).toString().trim().split('\n')
    }
    expect(await complete('catalog', 'pu')).toEqual(['publish'])
    expect(await complete('catalog', '--json', 'exec')).toEqual(['execute', 'executions'])
    expect(await complete('catalog', '--home', '/x', 'st')).toEqual(['status'])
    expect(await complete('catalog', 'fetch', '--fo')).toEqual(['--force'])
    expect(await complete('catalog', 'execute', '--on', '')).toEqual(['auto', 'local'])
    expect(await complete('catalog', 'publish', 'greet')).toEqual(['greeting'])
    expect(await complete('catalog', 'help', 'exit')).toEqual(['exit-codes'])
    expect(await complete('catalog', 'completion', '')).toEqual(['bash', 'zsh', 'fish'])
  })

  it.each(['zsh', 'fish'])('for %s names every command and option', async shell => {
    const { code, stdout } = await catalog(['completion', shell])
    expect(code).toBe(0)
    for (const { name, options } of commands) {
      expect(stdout).toContain(name)
      for (const { flags } of options) expect(stdout).toContain(/--([a-z-]+)/.exec(flags)?.[1])
    }
  })
})

describe('text for people', () => {
  it('a table fits 80 columns and keeps its columns apart', () => {
    const columns = [
      { title: 'NAME' },
      { title: 'SIZE', right: true as const },
      { title: 'DESCRIPTION', flexible: true as const },
    ]
    const rows = [
      ['word-count', '1.5 KiB', 'd'.repeat(200)],
      ['x', '12 B', 'two\nlines'],
    ]
    const lines = formatTable(columns, rows, 80).split('\n')
    expect(lines).toHaveLength(3)
    expect(lines[0]).toMatch(/^NAME +SIZE {2}DESCRIPTION$/)
    expect(lines[1]).toMatch(/^word-count {2}1\.5 KiB {2}d+…$/)
    expect(lines[2]).toMatch(/^x +12 B {2}two lines$/)
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80)
    expect(formatTable(columns, rows, Number.POSITIVE_INFINITY)).toContain('d'.repeat(200))
  })

  it('what other nodes wrote cannot drive the terminal', () => {
    expect(harmless('\u001b[2Jgone\u0007\u202e')).toBe('\ufffd[2Jgone\ufffd\ufffd')
  })

  it('sizes and times are short', () => {
    expect([0, 1023, 1024, 1536, 1024 ** 2 - 1, 123_456_789, 5 * 1024 ** 4].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.0 KiB',
      '1.5 KiB',
      '1.0 MiB',
      '118 MiB',
      '5.0 TiB',
    ])
    expect([3.2, 999, 1500, 59_999, 125_000, 10_860_000, 190_000_000].map(formatDuration)).toEqual([
      '3 ms',
      '999 ms',
      '1.5 s',
      '1 min 0 s',
      '2 min 5 s',
      '3 h 1 min',
      '2 d 4 h',
    ])
  })

  it('is what people see of lists', async () => {
    const { stdout } = await catalog(['list'])
    expect(stdout).toMatch(
      /^NAME +VERSION +SIZE +FILES +HERE +DESCRIPTION\nword-count +1\.2\.0 +8 B +1 +complete +The package/,
    )
    for (const args of [
      ['status'],
      ['peers'],
      ['show', 'word-count'],
      ['executions'],
      ['search', 'word'],
      ['search', 'zzz'],
      ['remove', 'acme/hostile'],
    ]) {
      const { code, stdout, stderr } = await catalog(args)
      expect([code, stderr]).toEqual([0, ''])
      expect(stdout).not.toMatch(/undefined|\[object|NaN|\{/)
    }
  })
})
