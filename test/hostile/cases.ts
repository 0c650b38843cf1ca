// All cases, by what the attacker is after.
import type { Case } from './case.ts'
import { bytes } from './cases/bytes.ts'
import { endless } from './cases/endless.ts'
import { expiry } from './cases/expiry.ts'
import { fastForward } from './cases/fast-forward.ts'
import { freeze } from './cases/freeze.ts'
import { delisting, equivocations, forks } from './cases/heads.ts'
import { mixAndMatch, wrongTarget } from './cases/mix-and-match.ts'
import { names } from './cases/names.ts'
import { revoked } from './cases/revoked.ts'
import { rights } from './cases/rights.ts'
import { rollback } from './cases/rollback.ts'
import { rotation, thresholds } from './cases/roots.ts'
import { seals } from './cases/seals.ts'

export const families: Readonly<Record<string, readonly Case[]>> = {
  'rollback: old news for new': rollback,
  'freeze: no news': freeze,
  'fast-forward: no news ever after': fastForward,
  'mix and match: true pieces of different things': mixAndMatch,
  'wrong target: other bytes than were meant': wrongTarget,
  'endless data': endless,
  'delisting: what was there is gone': delisting,
  'forks: two histories': forks,
  'equivocation: two truths': equivocations,
  'thresholds of the root': thresholds,
  'rotation of the root': rotation,
  'expiry, at each level': expiry,
  'names that were not granted': names,
  'rights that were not granted': rights,
  'what was revoked': revoked,
  'seals: signatures that do not belong': seals,
  'bytes that are not the one form': bytes,
}
