/** LUKS, Linux's encrypted disk. Recognised, not opened yet. */
import { hasU32be, recognised } from '../recognised.ts';

/** The LUKS format. */
export const luks = recognised({
  name: 'luks',
  title: 'Linux encrypted disk (LUKS)',
  extensions: ['luks'],
  probe: (head) => (hasU32be(head, 0, 0x4c554b53) && head[4] === 0xba && head[5] === 0xbe ? 100 : 0),
});
