/** DMG, the disk image of macOS. Its mark is at the end of the file, so probing uses the name, as QEMU's does; not opened yet. */
import { SECTOR } from '../../base/units.ts';
import { endsWith, recognised } from '../recognised.ts';

/** The DMG format. */
export const dmg = recognised({
  name: 'dmg',
  title: 'macOS disk image (UDIF)',
  extensions: ['dmg'],
  probe: (_, { name }) => (/\.dmg$/i.test(name) ? 2 : 0),
  ends: (tail) => endsWith(tail, SECTOR, 'koly'),
});
