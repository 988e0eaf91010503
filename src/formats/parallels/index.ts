/** Parallels' expanding disk. Recognised, not opened yet. */
import { hasText, hasU32le, recognised } from '../recognised.ts';

/** The Parallels format. */
export const parallels = recognised({
  name: 'parallels',
  title: 'Parallels disk',
  extensions: ['hdd', 'hds'],
  probe: (head) => ((hasText(head, 0, 'WithoutFreeSpace') || hasText(head, 0, 'WithouFreSpacExt')) && hasU32le(head, 16, 2) ? 100 : 0),
});
