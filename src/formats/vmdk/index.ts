/** VMDK, VMware's disk: sparse extents and their text descriptor. Recognised, not opened yet. */
import { hasText, hasU32le, recognised } from '../recognised.ts';

/** The VMDK format. */
export const vmdk = recognised({
  name: 'vmdk',
  title: 'VMware disk',
  extensions: ['vmdk'],
  probe: (head) => {
    const sparse = hasText(head, 0, 'KDMV') || hasText(head, 0, 'COWD') || hasU32le(head, 0, 0xcafebabe);
    return sparse || /^(#[^\n]*\n|\s)*# Disk DescriptorFile/.test(String.fromCharCode(...head.subarray(0, 200))) ? 100 : 0;
  },
});
