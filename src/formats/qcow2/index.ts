/** placeholder until the driver is in */
import type { FormatDescriptor } from '../driver.ts';
import { raw } from '../raw/index.ts';
export const qcow2: FormatDescriptor = { ...raw, name: 'qcow2', title: 'QEMU copy-on-write 2', probe: () => 0 };
