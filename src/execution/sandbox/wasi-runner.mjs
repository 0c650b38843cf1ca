// Runs inside the sandbox: one WASI preview 1 command module, as the job file says. Its exit code becomes ours; a trap
// is 134, as an abort is for a native program. Plain JavaScript: nothing of the installation but this file is in here.
import { readFileSync, writeSync } from 'node:fs'
import { WASI } from 'node:wasi'

const trapExit = 134

const { module: path, args, env, preopens } = JSON.parse(readFileSync(process.argv[2], 'utf8'))

const fail = message => {
  writeSync(2, `${message}\n`)
  process.exit(trapExit)
}

const start = async () => {
  const wasi = new WASI({ version: 'preview1', args, env, preopens, returnOnExit: true })
  const module = await WebAssembly.compile(readFileSync(path))
  const foreign = WebAssembly.Module.imports(module).find(
    ({ module: from }) => from !== 'wasi_snapshot_preview1',
  )
  if (foreign !== undefined)
    fail(`${args[0]} imports ${foreign.module}.${foreign.name}, which WASI preview 1 does not have`)
  const instance = await WebAssembly.instantiate(module, wasi.getImportObject())
  return wasi.start(instance)
}

try {
  process.exit(await start())
} catch (error) {
  fail(`${args[0]}: ${error instanceof WebAssembly.RuntimeError ? 'trap: ' : ''}${error.message}`)
}
