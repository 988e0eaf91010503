/**
 * VHD, the disk of Virtual PC and Hyper-V. Recognised, not opened yet. A fixed VHD has its mark only at the end of the file: probing by first
 * bytes, in QEMU and here, takes it for raw.
 */
import { view } from '../../base/bytes.ts';
import { SECTOR } from '../../base/units.ts';
import { readBytes } from '../../storage/storage.ts';
import { endsWith, hasText, recognised, sizeAndGeometry } from '../recognised.ts';

const MARK = 'conectix';
/** The places of the size in bytes and of the geometry (16 bits, 8 and 8) in the footer. */
const SIZE_AT = 48;
const GEOMETRY_AT = 56;

/** The VHD format, under QEMU's name. */
export const vpc = recognised({
  name: 'vpc',
  aliases: ['vhd'],
  title: 'Virtual PC and Hyper-V disk (VHD)',
  extensions: ['vhd', 'vpc'],
  probe: (head) => (hasText(head, 0, MARK) ? 100 : 0),
  // The oldest versions of Virtual PC wrote a footer of 511 bytes.
  ends: (tail) => endsWith(tail, SECTOR, MARK) || endsWith(tail, SECTOR - 1, MARK),
  *inspect(storage) {
    const copy = yield* readBytes(storage, 0, SECTOR);
    const footer = hasText(copy, 0, MARK) ? copy : yield* readBytes(storage, Math.max(0, storage.size - SECTOR), SECTOR);
    const fields = view(footer);
    const geometry = {
      cylinders: fields.getUint16(GEOMETRY_AT),
      heads: fields.getUint8(GEOMETRY_AT + 2),
      sectors: fields.getUint8(GEOMETRY_AT + 3),
    };
    const known = hasText(footer, 0, MARK);
    return sizeAndGeometry(known ? Number(fields.getBigUint64(SIZE_AT)) : 0, known ? geometry : { cylinders: 0, heads: 0, sectors: 0 });
  },
});
