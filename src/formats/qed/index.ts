/** QED, QEMU's enhanced disk. Recognised, not opened yet. */
import { hasText, recognised } from '../recognised.ts';

/** The QED format. */
export const qed = recognised({
  name: 'qed',
  title: 'QEMU enhanced disk',
  extensions: ['qed'],
  probe: (head) => (hasText(head, 0, 'QED\0') ? 100 : 0),
});
