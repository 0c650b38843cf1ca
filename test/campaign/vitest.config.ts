// Long runs, which `scripts/campaign` starts: minutes to hours each, one after the other, never in `scripts/test`.
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/campaign/*.campaign.ts'],
    // A run of hours bounds itself by CATALOG_MINUTES.
    testTimeout: 24 * 3_600_000,
    hookTimeout: 120_000,
    fileParallelism: false,
    pool: 'forks',
  },
})
