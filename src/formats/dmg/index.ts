/** DMG, the disk image of macOS. Its mark is at the end of the file, so the name decides; not opened yet. */
import { recognised } from '../recognised.ts';

/** The DMG format. */
export const dmg = recognised({
  name: 'dmg',
  title: 'macOS disk image (UDIF)',
  extensions: ['dmg'],
  probe: (_, { name }) => (/\.dmg$/i.test(name) ? 2 : 0),
});
