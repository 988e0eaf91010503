/** VDI, VirtualBox's disk image. Recognised, not opened yet. */
import { view } from '../../base/bytes.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import { hasU32le, recognised, sizeAndGeometry } from '../recognised.ts';

/** The place of cylinders, heads and sectors, 32 bits each, and the size in bytes, in the header of version 1.1. */
const GEOMETRY_AT = 348;
const SIZE_AT = 368;

/** The VDI format. */
export const vdi = recognised({
  name: 'vdi',
  title: 'VirtualBox disk image',
  extensions: ['vdi'],
  probe: (head) => (hasU32le(head, 64, 0xbeda107f) ? 100 : 0),
  *inspect(storage) {
    const header = view(yield* readBytes(storage, 0, SECTOR));
    const [cylinders = 0, heads = 0, sectors = 0] = [0, 4, 8].map((at) => header.getUint32(GEOMETRY_AT + at, true));
    return sizeAndGeometry(Number(header.getBigUint64(SIZE_AT, true)), { cylinders, heads, sectors });
  },
});
