/** DMG, the disk image of macOS (UDIF), for reading. Its mark is at the end of the file, so probing uses the name, as QEMU's does. */
import type { FormatDescriptor } from '../descriptor.ts';
import { endsWith, NO_CAPABILITIES } from '../recognised.ts';
import { openImage } from './image.ts';
import { FORMAT, TRAILER_SIZE } from './layout.ts';

/** The DMG format. */
export const dmg = {
  name: FORMAT,
  aliases: [],
  title: 'macOS disk image (UDIF)',
  extensions: ['dmg'],
  probe: (_, { name }) => (/\.dmg$/i.test(name) ? 2 : 0),
  ends: (tail) => endsWith(tail, TRAILER_SIZE, 'koly'),
  capabilities: { ...NO_CAPABILITIES, read: true, compressedRead: true },
  createOptions: [],
  limits: ['writing', 'encrypted images', 'images of several segments'],
  open: openImage,
} as const satisfies FormatDescriptor;
