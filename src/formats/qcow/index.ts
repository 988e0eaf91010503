/** QCOW version 1, the format before qcow2. Recognised, not opened yet. */
import { hasU32be, recognised } from '../recognised.ts';

/** The qcow (version 1) format. */
export const qcow = recognised({
  name: 'qcow',
  title: 'QEMU copy-on-write image, version 1',
  extensions: ['qcow'],
  probe: (head) => (hasU32be(head, 0, 0x514649fb) && hasU32be(head, 4, 1) ? 100 : 0),
});
