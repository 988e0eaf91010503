/**
 * The state with which the allocation map compares the disk: a snapshot (by the image's own tables, so changes by any program at any time count), or
 * the start of the machine that runs on it (recorded by its drive, since raw images have no snapshots).
 */
import type { JobOptions, MapSummary, RemoteDisk, SnapshotInfo } from '../index.ts';
import { element } from './dom.ts';
import { trackedIn } from './map-model.ts';
import type { ImageSession } from './session.ts';
import { dateTime } from './words.ts';

const NOTHING = 'nothing';
const MACHINE = 'machine';

/** The field for the choice. */
export class MapSince {
  readonly element = element('wa-select', { testId: 'map-since', attributes: { label: 'Mark what changed since', size: 's' } });
  #offered = '';
  #snapshots: readonly SnapshotInfo[] = [];
  /** The user's choice; before that, the latest snapshot. */
  #choice: string | undefined;

  constructor(chosen: () => void) {
    this.element.addEventListener('change', () => {
      this.#choice = String(this.element.value ?? NOTHING);
      chosen();
    });
  }

  /** The summary of a disk, with its changes. */
  async summary(session: ImageSession, disk: RemoteDisk, buckets: number, job: JobOptions): Promise<MapSummary> {
    const list = session.entry.capabilities.snapshots ? await disk.snapshots.list() : [];
    const since = this.#offer(session, list);
    if (since !== MACHINE) return disk.mapSummary(buckets, since === NOTHING ? job : { ...job, since });
    const summary = await disk.mapSummary(buckets, job);
    return session.tracked ? { ...summary, changed: trackedIn(session.tracked, summary) } : summary;
  }

  /** In words, for the table. */
  get words(): string {
    const value = this.element.value;
    const snapshot = this.#snapshots.find(({ id }) => id === value);
    return snapshot ? `changed since “${snapshot.name}”` : 'written since the machine started';
  }

  #offer(session: ImageSession, list: readonly SnapshotInfo[]): string {
    this.#snapshots = list;
    const machine = session.tracked !== undefined;
    const offered = [
      ...list.map(({ id, name, dateSeconds }) => ({ value: id, label: `${name} – ${dateTime(dateSeconds * 1000)}` })),
      ...(machine ? [{ value: MACHINE, label: 'the start of the machine' }] : []),
      { value: NOTHING, label: 'nothing: do not mark it' },
    ];
    this.element.hidden = offered.length === 1;
    const usual = list.at(-1)?.id ?? (machine ? MACHINE : NOTHING);
    const value = offered.some((one) => one.value === this.#choice) ? (this.#choice ?? usual) : usual;
    const key = JSON.stringify(offered);
    if (key !== this.#offered)
      this.element.replaceChildren(...offered.map((one) => element('wa-option', { attributes: { value: one.value } }, one.label)));
    this.#offered = key;
    this.element.value = value;
    return value;
  }
}
