/** cloop, a compressed read-only disk. Recognised by the start of the script that heads the file; not opened yet. */
import { hasText, recognised } from '../recognised.ts';

const SCRIPT = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';

/** The cloop format. */
export const cloop = recognised({
  name: 'cloop',
  title: 'Linux compressed loop image',
  extensions: ['cloop'],
  probe: (head) => (hasText(head, 0, SCRIPT) ? 2 : 0),
});
