/**
 * VHD, the disk of Virtual PC and Hyper-V. Recognised, not opened yet. A fixed VHD has its mark only at the end of the file, so it
 * cannot be told from raw by its first bytes.
 */
import { hasText, recognised } from '../recognised.ts';

/** The VHD format, under QEMU's name. */
export const vpc = recognised({
  name: 'vpc',
  aliases: ['vhd'],
  title: 'Virtual PC and Hyper-V disk (VHD)',
  extensions: ['vhd', 'vpc'],
  probe: (head) => (hasText(head, 0, 'conectix') ? 100 : 0),
});
