/** VDI, VirtualBox's disk image. Recognised, not opened yet. */
import { hasU32le, recognised } from '../recognised.ts';

/** The VDI format. */
export const vdi = recognised({
  name: 'vdi',
  title: 'VirtualBox disk image',
  extensions: ['vdi'],
  probe: (head) => (hasU32le(head, 64, 0xbeda107f) ? 100 : 0),
});
