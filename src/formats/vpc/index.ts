/**
 * VHD, the disk of Virtual PC and Hyper-V, under QEMU's name. A fixed VHD has its mark only at the end of the file: probing by first bytes, in QEMU and here,
 * takes it for raw.
 */
import { DiskError } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import { endsWith, hasText, NO_CAPABILITIES, sizeAndGeometry } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { diskSize, FORMAT, MARK, TYPE } from './layout.ts';
import { endOf, findFooter, openImage, readHeader } from './open.ts';
import { readParent } from './parent.ts';

/** The VHD format. */
export const vpc = {
  name: FORMAT,
  aliases: ['vhd'],
  title: 'Virtual PC and Hyper-V disk (VHD)',
  extensions: ['vhd', 'vpc'],
  probe: (head) => (hasText(head, 0, MARK) ? 100 : 0),
  // The oldest versions of Virtual PC wrote a footer of 511 bytes.
  ends: (tail) => endsWith(tail, SECTOR, MARK) || endsWith(tail, SECTOR - 1, MARK),
  capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true, compact: true },
  gist: 'grows as it is used',
  product: 'Virtual PC and older Hyper-V',
  strongOptions: /^force_size_calc$/,
  createOptions,
  limits: ['new differencing images', 'blocks of more than 1 GiB', 'resizing'],
  *inspect(storage) {
    try {
      const { footer, copy, end } = yield* findFooter(storage);
      const size = footer.type === TYPE.fixed ? Math.min(diskSize(footer), endOf(storage)) : diskSize(footer);
      const kind = footer.type === TYPE.fixed ? 'fixed' : footer.type === TYPE.dynamic ? 'dynamic' : 'differencing';
      const header = footer.type === TYPE.fixed ? undefined : yield* readHeader(storage, footer, size);
      const parent = header && footer.type === TYPE.differencing ? yield* readParent(storage, header) : undefined;
      const warnings = kind === 'fixed' || (copy && end) ? [] : [`the footer at the ${copy ? 'end' : 'beginning'} is damaged`];
      const references = parent ? [{ ...parent, kind: 'parent' as const }].map(({ otherNames: _, ...request }) => request) : [];
      return { ...sizeAndGeometry(size, footer), identity: footer.id, references, features: [kind], warnings };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
