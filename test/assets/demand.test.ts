import { describe, expect, test } from 'vitest'
import { demandOf, executableOf } from '../../src/assets/demand.ts'
import { parseManifest } from '../../src/assets/parse-manifest.ts'
import { isCatalogError } from '../../src/base/errors.ts'
import { minimalManifest } from './package-trees.ts'

function manifestWith(spec: string) {
  const { manifest, problems } = parseManifest(Buffer.from(minimalManifest + spec), 'yaml')
  if (manifest === undefined) throw new Error(JSON.stringify(problems))
  return manifest
}

describe('demand', () => {
  test('of a manifest that says nothing', () => {
    expect(demandOf(manifestWith(''))).toEqual({
      cpuCores: 1,
      gpuMemoryMb: 0,
      gpuRequired: false,
      memoryMb: 256,
      storageMb: 64,
      networkBandwidthMbps: 0,
      minNodes: 1,
      maxNodes: 1,
      runSeconds: 60,
      queueSeconds: 60,
      totalSeconds: 120,
    })
  })

  test('is the larger of what resources and execution say', () => {
    const demand = demandOf(
      manifestWith(`  resources: {cpu_cores: 2, memory_mb: 100, storage_mb: 5, network_bandwidth_mbps: 9, gpu_type: CUDA}
  execution: {cpu_cores: 1, memory_mb: 200, gpu_memory_mb: 7, cpu_architecture: x86_64, min_nodes: 3,
              timeout_config: {run_seconds: 5}}
`),
    )
    expect(demand).toMatchObject({
      cpuCores: 2,
      memoryMb: 200,
      storageMb: 5,
      gpuMemoryMb: 7,
      gpuType: 'CUDA',
      cpuArchitecture: 'x86_64',
      networkBandwidthMbps: 9,
      minNodes: 3,
      maxNodes: 3,
      runSeconds: 5,
      totalSeconds: 65,
    })
  })

  test('runs no longer than the total that is given', () => {
    expect(demandOf(manifestWith('  execution: {timeout_config: {total_seconds: 10}}\n'))).toMatchObject({
      runSeconds: 10,
      totalSeconds: 10,
    })
  })
})

describe('what is executed', () => {
  test('is told by runtime and entrypoint', () => {
    const spec = '  execution: {runtime: wasm, entrypoint: a.wasm, args: [x], env: {A: b}, outputs: out}\n'
    expect(executableOf(manifestWith(spec))).toEqual({
      runtime: 'wasm',
      entrypoint: 'a.wasm',
      args: ['x'],
      env: { A: 'b' },
      outputs: 'out',
      network: 'none',
      persistentStorage: false,
    })
  })

  test.each([
    ['', ['spec.execution.runtime', 'spec.execution.entrypoint']],
    ['  execution: {entrypoint: a}\n', ['spec.execution.runtime']],
  ])('is refused without them, by name: %j', (spec, missing) => {
    expect(() => executableOf(manifestWith(spec))).toThrow(
      expect.toSatisfy(
        (error: unknown) =>
          isCatalogError(error, 'not-executable') &&
          missing.every(field => error.message.includes(field)) &&
          JSON.stringify(error.data['missing']) === JSON.stringify(missing),
      ),
    )
  })

  test('is never a library', () => {
    const spec = '  type: library\n  execution: {runtime: wasm, entrypoint: a.wasm}\n'
    expect(() => executableOf(manifestWith(spec))).toThrow('library')
  })
})
