/** cloop, a compressed disk of Linux, for reading. It is recognised by the start of the script that heads the file. */
import type { FormatDescriptor } from '../descriptor.ts';
import { hasText, NO_CAPABILITIES } from '../recognised.ts';
import { openImage } from './image.ts';
import { FORMAT } from './layout.ts';

const SCRIPT = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';

/** The cloop format. */
export const cloop = {
  name: FORMAT,
  aliases: [],
  title: 'Linux compressed loop image',
  extensions: ['cloop'],
  probe: (head) => (hasText(head, 0, SCRIPT) ? 2 : 0),
  capabilities: { ...NO_CAPABILITIES, read: true, compressedRead: true },
  createOptions: [],
  limits: ['writing', 'versions other than 2'],
  open: openImage,
} as const satisfies FormatDescriptor;
