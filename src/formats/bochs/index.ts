/** Bochs' growing disk. Recognised, not opened yet. */
import { hasText, recognised } from '../recognised.ts';

/** The Bochs format. */
export const bochs = recognised({
  name: 'bochs',
  title: 'Bochs growing disk',
  extensions: ['bochs'],
  probe: (head) => (hasText(head, 0, 'Bochs Virtual HD Image') && hasText(head, 32, 'Redolog') && hasText(head, 48, 'Growing') ? 100 : 0),
});
