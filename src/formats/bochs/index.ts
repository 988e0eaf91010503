/** Bochs' growing disk, for reading. */
import type { FormatDescriptor } from '../descriptor.ts';
import { NO_CAPABILITIES } from '../recognised.ts';
import { openImage } from './image.ts';
import { FORMAT, isGrowing } from './layout.ts';

/** The Bochs format. */
export const bochs = {
  name: FORMAT,
  aliases: [],
  title: 'Bochs growing disk',
  extensions: ['bochs'],
  probe: (head) => (isGrowing(head) ? 100 : 0),
  capabilities: { ...NO_CAPABILITIES, read: true },
  createOptions: [],
  limits: ['writing', 'undoable and volatile redo logs', 'flat, concatenated and sparse disks'],
  open: openImage,
} as const satisfies FormatDescriptor;
