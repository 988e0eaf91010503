/** VHDX, Hyper-V's disk since 2012. */
import { DiskError } from '../../base/errors.ts';
import type { FormatDescriptor } from '../descriptor.ts';
import type { FileRequest } from '../driver.ts';
import { hasText, NO_CAPABILITIES } from '../recognised.ts';
import { createImage, createOptions } from './create.ts';
import { FORMAT, NO_GUID, SIGNATURE } from './layout.ts';
import { readFacts, readHead } from './open.ts';
import { openImage } from './opening.ts';
import { parentOf } from './parent.ts';

/** The VHDX format. */
export const vhdx = {
  name: FORMAT,
  aliases: [],
  title: 'Hyper-V disk (VHDX)',
  extensions: ['vhdx', 'avhdx'],
  probe: (head) => (hasText(head, 0, SIGNATURE) ? 100 : 0),
  capabilities: {
    ...NO_CAPABILITIES,
    read: true,
    write: true,
    create: true,
    resize: true,
    check: true,
    repair: true,
    backing: true,
    discard: true,
    zeroes: true,
    compact: true,
  },
  gist: 'grows as it is used',
  product: 'Hyper-V',
  notesParents: true,
  createOptions,
  limits: ['shrinking', 'a parent for an image that was made without one', 'logs longer than 128 MiB that were not replayed'],
  *inspect(storage) {
    try {
      const { header } = yield* readHead(storage);
      const hasLog = header.log !== NO_GUID;
      const { metadata } = yield* readFacts(storage, header);
      const kind = metadata.hasParent ? 'differencing' : metadata.fixed ? 'fixed' : 'dynamic';
      const references: FileRequest[] = [];
      if (metadata.locator) {
        const { otherNames: _, ...parent } = parentOf(metadata.locator);
        references.push({ ...parent, kind: 'parent' });
      }
      return { size: metadata.size, identity: header.dataWrite, references, features: hasLog ? [kind, 'log to be replayed'] : [kind], warnings: [] };
    } catch (error) {
      if (!(error instanceof DiskError) || error.kind === 'io') throw error;
      return { references: [], features: [], warnings: [error.message] };
    }
  },
  open: openImage,
  create: createImage,
} as const satisfies FormatDescriptor;
