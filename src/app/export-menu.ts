/** The Export button with its menu: every way an image can leave. What this one cannot do is greyed out, and says why. */
import { type ExportFacts, type ExportOptions, exportProblem } from '../index.ts';
import { button, element } from './dom.ts';
import type { ExportWish } from './export.ts';
import type { ImageSession } from './session.ts';
import { sentence } from './words.ts';

type Item = HTMLElementTagNameMap['wa-dropdown-item'];

const WAYS: readonly { wish: ExportWish; text: string; options: Pick<ExportOptions, 'format' | 'compressed' | 'since'> }[] = [
  { wish: 'qcow2', text: 'as qcow2, for QEMU', options: { format: 'qcow2' } },
  { wish: 'compressed', text: 'as qcow2, compressed, without snapshots', options: { format: 'qcow2', compressed: true } },
  { wish: 'raw', text: 'as raw, for everything else', options: { format: 'raw' } },
  { wish: 'luks', text: 'as it is, encrypted (LUKS)', options: { format: 'luks' } },
  { wish: 'changes', text: 'only what changed since a snapshot', options: { format: 'qcow2', since: { snapshot: '' } } },
];

/** The button with its menu for one image. `chosen` is called with the way that the user takes. */
export function exportMenu(session: ImageSession, chosen: (wish: ExportWish) => void): HTMLElementTagNameMap['wa-dropdown'] {
  const trigger = button('Export', { testId: 'export', icon: 'export', attributes: { slot: 'trigger', 'with-caret': true }, press: () => undefined });
  const items = WAYS.map(({ wish, text }) => {
    const reason = element('span', { class: 'item-reason', testId: `export-${wish}-reason`, attributes: { hidden: true } });
    const item = element(
      'wa-dropdown-item',
      { testId: `export-${wish}`, attributes: { value: wish } },
      element('span', { class: 'item-title' }, text),
      reason,
    );
    return { item, reason };
  });
  const offer = (facts: ExportFacts): void => {
    for (const [index, { item, reason }] of items.entries()) {
      const way = WAYS[index];
      if (way) offerWay(item, reason, facts, way.options);
    }
  };
  const menu = element('wa-dropdown', {}, trigger, ...items.map(({ item }) => item));
  menu.addEventListener('wa-show', () => {
    offer(session.entry);
    void countSnapshots(session).then((snapshots) => {
      if (snapshots !== undefined) offer({ ...session.entry, snapshots });
    });
  });
  menu.addEventListener('wa-select', (event) => {
    const value = event.detail.item.getAttribute('value');
    const way = WAYS.find(({ wish }) => wish === value);
    if (way) chosen(way.wish);
  });
  return menu;
}

function offerWay(item: Item, reason: HTMLElement, facts: ExportFacts, options: Pick<ExportOptions, 'format' | 'compressed' | 'since'>): void {
  const problem = exportProblem(facts, options);
  item.disabled = problem !== undefined;
  // A format that few images have is not shown to the others at all.
  item.hidden = options.format === 'luks' && problem !== undefined;
  reason.textContent = problem === undefined ? '' : sentence(problem.message);
  reason.hidden = problem === undefined;
}

/** Undefined where nobody can tell without asking for a password. */
async function countSnapshots(session: ImageSession): Promise<number | undefined> {
  const { format, encrypted } = session.entry;
  if (format !== 'qcow2' || (encrypted && !session.unlocked)) return undefined;
  return session
    .use((disk) => disk.snapshots.list())
    .then(
      ({ length }) => length,
      () => undefined,
    );
}
