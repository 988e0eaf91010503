/** The Overview tab: the facts of `qemu-img info` about the image, the same as JSON, and `check` with its result in words. */
import { type CheckResult, type DiskInfo, formatSize, type ImageEntry } from '../index.ts';
import { CompactSection } from './compact.ts';
import { confirmed } from './dialogs.ts';
import { button, type Child, element, facts } from './dom.ts';
import { LayersSection } from './layers.ts';
import { Looking } from './looking.ts';
import type { Chosen, Panel, Surroundings } from './panel.ts';
import { counted, dateTime, failure, placeName, share, sizeWithBytes } from './words.ts';

export class OverviewPanel implements Panel {
  readonly #facts = element('div', {});
  readonly #json = element('pre', { class: 'code', testId: 'overview-json', attributes: { tabindex: 0 } });
  readonly #result = element('div', { class: 'check-result', testId: 'check-result', attributes: { role: 'status' } });
  readonly #check = button('Check', { testId: 'check', icon: 'check', press: () => void this.#run() });
  readonly #repair = button('Repair', { testId: 'repair', attributes: { variant: 'warning' }, press: () => void this.#askRepair() });
  readonly #looking = new Looking('check', 'Checking…');
  readonly #layers: LayersSection;
  readonly #compact: CompactSection;
  readonly element = element(
    'div',
    { class: 'stack' },
    this.#facts,
    element(
      'section',
      { class: 'stack tight' },
      element('h3', {}, 'Check'),
      element('p', { class: 'quiet' }, 'Looks at every table of the image and counts what each cluster is used for, as qemu-img check does.'),
      element('div', { class: 'row' }, this.#check, this.#repair),
      this.#looking.element,
      this.#result,
    ),
    element(
      'wa-details',
      { testId: 'overview-json-details', attributes: { summary: 'The same as JSON, in the words of qemu-img info' } },
      this.#json,
    ),
  );
  readonly #around: Surroundings;
  readonly #chosen: Chosen;

  constructor(around: Surroundings, chosen: Chosen) {
    this.#around = around;
    this.#chosen = chosen;
    this.#repair.hidden = true;
    this.#layers = new LayersSection(around, chosen);
    this.#compact = new CompactSection(around, chosen);
    this.#facts.after(this.#layers.element, this.#compact.element);
  }

  async show(): Promise<void> {
    const { session } = this.#chosen;
    const info = await session.use((disk) => disk.info());
    const list = facts(rows(session.entry, info, this.#around.find(session.entry.backing ?? '')?.entry.name), 'overview-facts');
    list.classList.add('wide');
    this.#facts.replaceChildren(list);
    this.#layers.show();
    this.#compact.show(info);
    this.#json.textContent = JSON.stringify(info, null, 2);
    const { capabilities, format } = session.entry;
    this.#check.disabled = !capabilities.check;
    if (!capabilities.check) this.#result.textContent = `A ${format} image has no tables, so there is nothing to check.`;
  }

  async #run(): Promise<void> {
    const { session, left } = this.#chosen;
    this.#check.loading = true;
    this.#result.replaceChildren();
    try {
      const result = await this.#looking.run(left, (job) => session.use((disk) => disk.check(job)));
      if (result === undefined) this.#result.textContent = 'The check was called off. It changed nothing.';
      else {
        this.#tell(result);
        this.#repair.hidden = result.corruptions === 0 && result.leaks === 0;
      }
    } catch (error) {
      this.#result.textContent = failure(error);
    }
    this.#check.loading = false;
  }

  async #askRepair(): Promise<void> {
    const { session, left, messages } = this.#chosen;
    const text = 'Repairing rewrites tables of the image in place. Export a copy first if its contents matter.';
    if (!(await confirmed({ title: `Repair ${session.entry.name}?`, text, deed: 'Repair', danger: true, left }))) return;
    this.#repair.loading = true;
    try {
      this.#tell(await session.repair((disk) => disk.check({ repair: 'all' })));
      this.#repair.hidden = true;
    } catch (error) {
      messages.error('The image was not repaired', error);
    }
    this.#repair.loading = false;
  }

  #tell(result: CheckResult): void {
    const findings = result.messages.map((message) => element('li', {}, message));
    this.#result.replaceChildren(
      element('p', { class: result.corruptions > 0 ? 'verdict bad' : 'verdict' }, verdict(result)),
      element('p', { class: 'quiet' }, figures(result)),
      ...(findings.length > 0 ? [element('ul', { class: 'findings' }, ...findings)] : []),
    );
  }
}

function verdict(result: CheckResult): string {
  const fixed = result.corruptionsFixed + result.leaksFixed;
  const repaired = fixed > 0 ? `${counted(fixed, 'problem')} repaired. ` : '';
  if (result.checkErrors > 0) return `${repaired}${counted(result.checkErrors, 'structure')} could not be looked at, so this check is not complete.`;
  if (result.corruptions > 0)
    return `${repaired}${counted(result.corruptions, 'error')} found: data may be lost or mixed up. Export what you need before you go on.`;
  if (result.leaks > 0) return `${repaired}No errors. ${counted(result.leaks, 'cluster')} leaked: that wastes space and harms nothing.`;
  return `${repaired}No errors were found on the image.`;
}

function figures(result: CheckResult): string {
  const { totalClusters: total, allocatedClusters: allocated } = result;
  const parts = [
    `${allocated.toLocaleString('en-US')} of ${counted(total, 'cluster')} allocated (${share(allocated, total)})`,
    `${share(result.fragmentedClusters, allocated)} fragmented`,
    `${share(result.compressedClusters, allocated)} compressed`,
    `image end at ${formatSize(result.imageEndOffset)}`,
  ];
  return `${parts.join(', ')}.`;
}

type Row = readonly [string, Child, string?];

/** `below`: the name of the image that this one lies over. */
function rows(entry: ImageEntry, info: DiskInfo, below: string | undefined): Row[] {
  const made: Row[] = [
    ['Format', info.format, 'fact-format'],
    ['Virtual size', sizeWithBytes(info['virtual-size']), 'fact-size'],
    ['Space used', sizeWithBytes(info['actual-size']), 'fact-used'],
    ['Kept in', placeName(entry.place), 'fact-place'],
  ];
  if (info['cluster-size'] !== undefined) made.push(['Cluster size', sizeWithBytes(info['cluster-size']), 'fact-cluster']);
  if (info['backing-filename'] !== undefined) made.push(['Backing file', below ?? info['backing-filename'], 'fact-backing']);
  for (const [name, value] of Object.entries(info['format-specific']?.data ?? {})) {
    if (typeof value === 'object') continue;
    made.push([label(name), yesNo(value)]);
  }
  if (info.encrypted) made.push(['Encrypted', 'yes: it opens with its password', 'fact-encrypted']);
  if (info['dirty-flag']) made.push(['State', 'marked dirty: it was not closed cleanly']);
  made.push(['Snapshots', String(info.snapshots?.length ?? 0), 'fact-snapshots']);
  made.push(['Created here', dateTime(entry.created)], ['Last changed', dateTime(entry.changed)]);
  return made;
}

function yesNo(value: unknown): string {
  return value === true ? 'yes' : value === false ? 'no' : String(value);
}

/** "refcount-bits" as "Refcount bits". */
function label(name: string): string {
  return (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll('-', ' ').replace(' l2', ' L2');
}
