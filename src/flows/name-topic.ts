// Where the holders of a name's heads are found in the DHT.
import { cidOf } from '../base/cid.ts'

/** The DHT topic that whoever holds heads of the name provides. */
export const nameTopic = (name: string): string => cidOf(Buffer.from(`catalog/name/v1/${name}`))
