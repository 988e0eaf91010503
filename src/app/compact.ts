/** Compacting an image, in the Overview tab: what it takes, what it will take at most, and what it took. */
import { type DiskInfo, formatSize, type MapSummary } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { button, element } from './dom.ts';
import type { Chosen, Surroundings } from './panel.ts';
import { isAbort, isKeyProblem } from './words.ts';

export class CompactSection {
  readonly #remark = element('p', { class: 'quiet', testId: 'compact-remark' });
  readonly #deed = button('Compact', { testId: 'compact', press: () => void this.#ask() });
  readonly element = element(
    'section',
    { class: 'stack tight' },
    element('h3', {}, 'Space'),
    this.#remark,
    element('div', { class: 'row' }, this.#deed),
  );
  readonly #around: Surroundings;
  readonly #chosen: Chosen;

  constructor(around: Surroundings, chosen: Chosen) {
    this.#around = around;
    this.#chosen = chosen;
  }

  show(info: DiskInfo): void {
    const { session } = this.#chosen;
    const snapshots = (info.snapshots ?? []).length > 0;
    this.element.hidden = !session.entry.capabilities.compact;
    this.#deed.disabled = session.elsewhere || session.held || snapshots;
    this.#remark.textContent = snapshots
      ? 'An image with snapshots cannot be compacted: the snapshots would be lost. Delete them first, if you need them no more.'
      : 'Files that the guest has deleted still take space here. Compacting writes the image anew, without what nothing uses and without zeros.';
  }

  async #ask(): Promise<void> {
    const { session, left, messages } = this.#chosen;
    const { id, name, storedSize, encrypted } = session.entry;
    const { jobs, library } = this.#around;
    try {
      const most = Math.min(storedSize, needed(await session.use((disk) => disk.mapSummary(1))));
      const text = `“${name}” takes ${formatSize(storedSize)} now, and ${formatSize(most)} or less afterwards. The copy is checked before it takes the place of the image; until then there must be room for both.`;
      if (!(await confirmed({ title: 'Compact this image?', text, deed: 'Compact', left }))) return;
      const secret = encrypted ? await session.password() : undefined;
      await session.close();
      const { before, after } = await jobs.run(
        `Compacting ${name}`,
        (job) => library.compact(id, { ...job, ...(secret === undefined ? {} : { secret }) }),
        { pausable: true },
      );
      messages.success(`${name} is compacted`, `It took ${formatSize(before)}, and takes ${formatSize(after)} now.`);
      session.changed.emit();
    } catch (error) {
      if (!isAbort(error) && !isKeyProblem(error)) messages.error(`${name} was not compacted, and is as it was`, error);
    }
  }
}

/** Bytes of an image's clusters, and of its tables. */
const needed = ({ buckets, metadata }: MapSummary): number =>
  [...buckets.map(({ data, compressed }) => data + compressed), ...metadata.map(({ length }) => length)].reduce((sum, part) => sum + part, 0);
