/** The Export button with its menu: every form in which an image can be exported. Forms that are impossible for this image are greyed out, with the reason. */
import { APPLIANCE, type DiskError, type ExportFacts, exportProblem, type FormatFacts, OVERLAY_FORMAT } from '../index.ts';
import { button, element } from './dom.ts';
import type { ExportWay } from './export.ts';
import type { ImageSession } from './session.ts';
import { forProduct, sentence } from './words.ts';

type Item = HTMLElementTagNameMap['wa-dropdown-item'];

/** The forms of export, from the list of formats: those that some program calls its own, then plain bytes. */
function waysOut(formats: readonly FormatFacts[]): ExportWay[] {
  const made = formats
    .filter(({ capabilities }) => capabilities.create)
    .sort((one, other) => Number(one.plain ?? false) - Number(other.plain ?? false));
  const open = made.filter(({ encryption }) => !encryption?.always);
  const same = made.filter(({ encryption }) => encryption?.always);
  return [
    ...open.flatMap((facts) => {
      const { name: format, gist, compressed } = facts;
      return [
        { id: format, text: `${forProduct(facts)}: ${gist}`, options: { format } },
        ...(compressed
          ? [{ id: `${format}-compressed`, text: `${forProduct(facts)}, compressed: ${compressed.remark}`, options: { format, compressed: true } }]
          : []),
      ];
    }),
    { id: APPLIANCE, text: 'for VMware and VirtualBox (.ova): an appliance, a machine with this disk', options: { format: APPLIANCE } },
    ...same.map((facts) => ({ id: facts.name, text: `as it is, ${forProduct(facts)}: ${facts.gist}`, options: { format: facts.name }, rare: true })),
    { id: 'changes', text: 'only what changed since a snapshot', options: { format: OVERLAY_FORMAT, since: { snapshot: '' } } },
  ] as ExportWay[];
}

/** The button with its menu for one image. `chosen` is called with the form that the user chooses. */
export function exportMenu(
  session: ImageSession,
  formats: readonly FormatFacts[],
  chosen: (way: ExportWay) => void,
): HTMLElementTagNameMap['wa-dropdown'] {
  const trigger = button('Export', { testId: 'export', icon: 'export', attributes: { slot: 'trigger', 'with-caret': true }, press: () => undefined });
  const ways = waysOut(formats);
  const items = ways.map(({ id, text }) => {
    const reason = element('span', { class: 'item-reason', testId: `export-${id}-reason`, attributes: { hidden: true } });
    const item = element(
      'wa-dropdown-item',
      { testId: `export-${id}`, attributes: { value: id } },
      element('span', { class: 'item-title' }, text),
      reason,
    );
    return { item, reason };
  });
  const offer = (facts: ExportFacts): void => {
    for (const [index, { item, reason }] of items.entries()) {
      const way = ways[index];
      if (way) offerWay(item, reason, way, exportProblem(facts, way.options, formats));
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
    const way = ways.find(({ id }) => id === value);
    if (way) chosen(way);
  });
  return menu;
}

function offerWay(item: Item, reason: HTMLElement, { rare }: ExportWay, problem: DiskError | undefined): void {
  item.disabled = problem !== undefined;
  // A format of few images is not shown at all for the other images.
  item.hidden = rare === true && problem !== undefined;
  reason.textContent = problem === undefined ? '' : sentence(problem.message);
  reason.hidden = problem === undefined;
}

/** Undefined if the number is not known without a password. */
async function countSnapshots(session: ImageSession): Promise<number | undefined> {
  const { capabilities, encrypted } = session.entry;
  if (!capabilities.snapshots || (encrypted && !session.unlocked)) return undefined;
  return session
    .use((disk) => disk.snapshots.list())
    .then(
      ({ length }) => length,
      () => undefined,
    );
}
