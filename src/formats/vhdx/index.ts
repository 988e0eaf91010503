/** VHDX, Hyper-V's disk since 2012. Recognised, not opened yet. */
import { hasText, recognised } from '../recognised.ts';

/** The VHDX format. */
export const vhdx = recognised({
  name: 'vhdx',
  title: 'Hyper-V disk (VHDX)',
  extensions: ['vhdx', 'avhdx'],
  probe: (head) => (hasText(head, 0, 'vhdxfile') ? 100 : 0),
});
