/**
 * The Snapshots tab: the snapshots inside the image. Taking one while a machine runs stops the guest's clock for as long as it
 * takes, and first writes the adapter's unsaved bytes to the disk; reverting stops the machine before anything changes. With machine state
 * all drives of the machine are saved with its memory, and reverting makes the machine go on from there.
 */
import { formatSize, machineMoment, OVERLAY_FORMAT, type SnapshotInfo } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { button, element, Rows } from './dom.ts';
import { deleteEverywhere, sameMachine, settingsOf } from './machine-snapshots.ts';
import type { Chosen, Panel, Surroundings } from './panel.ts';
import type { ImageSession } from './session.ts';
import { dateTime } from './words.ts';

export class SnapshotsPanel implements Panel {
  readonly #name = element('wa-input', {
    testId: 'snapshot-name',
    attributes: { label: 'Name of the new snapshot', autocomplete: 'off', maxlength: 200 },
  });
  readonly #take = button('Take snapshot', {
    testId: 'snapshot-take',
    icon: 'camera',
    attributes: { size: 'm', appearance: 'accent', variant: 'brand', type: 'submit' },
    press: () => undefined,
  });
  readonly #state = element('wa-checkbox', { testId: 'snapshot-machine', attributes: { checked: true } }, 'with machine state');
  readonly #form = element('form', { class: 'row snapshot-form' }, this.#name, this.#state, this.#take);
  readonly #body = element('tbody', { testId: 'snapshot-rows' });
  readonly #rows = new Rows(this.#body, (key) => this.#row(key));
  readonly #table = element(
    'table',
    { class: 'table', testId: 'snapshot-table' },
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        ...['ID', 'Name', 'Taken', 'Disk size', 'Machine state'].map((text) => element('th', { attributes: { scope: 'col' } }, text)),
        element('th', { attributes: { scope: 'col' } }, element('span', { class: 'visually-hidden' }, 'Actions')),
      ),
    ),
    this.#body,
  );
  readonly #problem = element('p', { class: 'problem', testId: 'snapshot-problem', attributes: { role: 'alert' } });
  readonly #remark = element('p', { class: 'quiet', testId: 'snapshot-remark' });
  readonly element = element('div', { class: 'stack' }, this.#remark, this.#form, this.#problem, element('div', { class: 'scroll' }, this.#table));
  readonly #around: Surroundings;
  readonly #chosen: Chosen;
  #list: readonly SnapshotInfo[] = [];
  /** The suggestion in the name field. */
  #suggested = '';
  #busy = false;

  constructor(around: Surroundings, chosen: Chosen) {
    this.#around = around;
    this.#chosen = chosen;
    this.#table.hidden = true;
    chosen.left.addEventListener(
      'abort',
      around.machine.changed.listen(() => this.#offerState()),
    );
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#create();
    });
  }

  async show(): Promise<void> {
    const { session } = this.#chosen;
    const possible = session.entry.capabilities.snapshots;
    this.#form.hidden = !possible;
    if (!possible) {
      this.#table.hidden = true;
      this.#remark.textContent = `A ${session.entry.format} image has no place for snapshots. Export it as ${OVERLAY_FORMAT}, or start anew with a ${OVERLAY_FORMAT} image, to have them.`;
      return;
    }
    const list = await session.use((disk) => disk.snapshots.list());
    const writable = !session.elsewhere;
    this.#take.disabled = !writable;
    this.#offerState();
    this.#list = list;
    this.#table.hidden = list.length === 0;
    this.#remark.textContent =
      list.length === 0
        ? 'A snapshot keeps the disk as it is now, inside the image, and costs only what changes afterwards. There is none yet.'
        : 'Each keeps the disk as it was, inside the image. Reverting brings that state back and discards what came after.';
    for (const row of this.#rows.show(list.map((snapshot) => JSON.stringify(snapshot)))) row.allow(writable);
    await this.#suggest();
  }

  /** The memory of a machine can be saved while there is one, and if each of its disks can keep its own part of the snapshot. */
  #offerState(): void {
    const { machine } = this.#around;
    const without = machine.drives.find(({ slot, session }) => slot !== 'cdrom' && session?.entry.capabilities.snapshots === false)?.session;
    this.#state.hidden = !(this.#chosen.session.held && machine.alive);
    this.#state.disabled = without !== undefined;
    this.#state.hint = without === undefined ? '' : `Of this disk alone: ${without.entry.name} in the machine keeps no snapshots.`;
  }

  /** A new name, unless the user has typed one: new in all drives of the machine, since memory is saved under the same name in all of them. */
  async #suggest(): Promise<void> {
    const typed = this.#name.value ?? '';
    if (typed !== '' && typed !== this.#suggested) return;
    const names = new Set(this.#list.map(({ name }) => name));
    for (const { session } of this.#state.hidden ? [] : this.#around.machine.drives) {
      if (session === undefined || session === this.#chosen.session || !session.entry.capabilities.snapshots) continue;
      const others = await session.use((disk) => disk.snapshots.list()).catch(() => []);
      for (const { name } of others) names.add(name);
    }
    if ((this.#name.value ?? '') !== typed) return;
    this.#suggested = nextName(names);
    this.#name.value = this.#suggested;
  }

  #row(key: string): { element: HTMLElement; allow: (writable: boolean) => void } {
    const snapshot = JSON.parse(key) as SnapshotInfo;
    const deeds = [
      button('Revert', { testId: 'snapshot-revert', icon: 'revert', press: () => void this.#revert(snapshot) }),
      button('Delete', { testId: 'snapshot-delete', icon: 'trash', press: () => void this.#delete(snapshot) }),
    ];
    const actions = element('div', { class: 'row end' }, ...deeds);
    const allow = (writable: boolean): void => {
      for (const deed of deeds) deed.disabled = !writable;
    };
    const cells = [
      snapshot.id,
      snapshot.name,
      dateTime(snapshot.dateSeconds * 1000),
      formatSize(snapshot.diskSize),
      snapshot.vmStateSize > 0 ? formatSize(snapshot.vmStateSize) : 'none',
    ];
    const [id, name, ...others] = cells.map((text) => element('td', {}, text));
    name?.classList.add('name');
    name?.setAttribute('dir', 'auto');
    return { element: element('tr', { testId: 'snapshot-row' }, id, name, ...others, element('td', {}, actions)), allow };
  }

  async #create(): Promise<void> {
    const { session } = this.#chosen;
    const name = (this.#name.value ?? '').trim();
    this.#problem.textContent = name === '' ? 'Give the snapshot a name.' : '';
    if (name === '') return this.#name.focus();
    const { machine } = this.#around;
    const withState = !this.#state.hidden && !this.#state.disabled && this.#state.checked;
    const replaced = withState && this.#list.some((snapshot) => snapshot.name === name);
    const text = `There is a snapshot “${name}” already. The new one takes its place in all drives of the machine.`;
    if (replaced && !(await confirmed({ title: 'Replace the snapshot?', text, deed: 'Replace', danger: true, left: this.#chosen.left }))) return;
    await this.#work('The snapshot was not taken', async () => {
      if (withState) await machine.takeSnapshot(name);
      const take = (): Promise<SnapshotInfo> => session.change((disk) => disk.snapshots.create({ name }));
      if (!withState) await (session.held ? machine.whilePaused(take) : take());
      // The user may have typed the next name meanwhile, or the list, read anew, has brought a suggestion.
      if ((this.#name.value ?? '').trim() === name) this.#name.value = '';
      this.#chosen.messages.success(`Snapshot ${name} is taken`);
    });
  }

  async #revert(snapshot: SnapshotInfo): Promise<void> {
    const { session } = this.#chosen;
    if (snapshot.vmStateSize > 0) return this.#revertMachine(session, snapshot);
    await this.#revertDisk(session, snapshot);
  }

  /** Reverts disks and memory: in the machine that is on if it is the same, else in one that starts from there. */
  async #revertMachine(session: ImageSession, snapshot: SnapshotInfo): Promise<void> {
    const { machine, find } = this.#around;
    let settings: Awaited<ReturnType<typeof settingsOf>>;
    try {
      settings = await settingsOf(session, snapshot, find);
    } catch (error) {
      return this.#chosen.messages.error('The machine cannot go back to this snapshot', error);
    }
    // The state is of another emulator: the disk is useful all the same.
    if (settings === undefined) return this.#revertDisk(session, snapshot);
    const on = machine.settings;
    const inPlace = machine.alive && on !== undefined && sameMachine(on, settings);
    const other = machine.state === 'off' || inPlace ? '' : ' The machine that is on is stopped first.';
    const when = dateTime(snapshot.dateSeconds * 1000);
    const text = `The machine goes on from “${snapshot.name}” of ${when}: its memory and all of its disks go back. What was written since is lost, unless another snapshot has it.${other}`;
    if (!(await confirmed({ title: 'Revert the machine to this snapshot?', text, deed: 'Revert', danger: true, left: this.#chosen.left }))) return;
    await this.#work('The machine was not reverted', async () => {
      if (inPlace) await machine.revert(machineMoment(snapshot));
      else {
        await machine.stop();
        await machine.start(settings, machineMoment(snapshot));
      }
      this.#chosen.messages.success(`The machine goes on from ${snapshot.name}`);
    });
  }

  async #revertDisk(session: ImageSession, snapshot: SnapshotInfo): Promise<void> {
    const running = session.held ? ' The machine that runs on it is stopped first.' : '';
    const text = `The disk goes back to “${snapshot.name}” of ${dateTime(snapshot.dateSeconds * 1000)}. What was written since is lost, unless another snapshot has it.${running}`;
    if (
      !(await confirmed({
        title: 'Revert to this snapshot?',
        text,
        deed: session.held ? 'Stop and revert' : 'Revert',
        danger: true,
        left: this.#chosen.left,
      }))
    )
      return;
    await this.#work('The disk was not reverted', async () => {
      if (session.held) await this.#around.machine.stop();
      await session.change((disk) => disk.snapshots.apply(snapshot.id));
      this.#chosen.messages.success(`The disk is back at ${snapshot.name}`);
    });
  }

  async #delete(snapshot: SnapshotInfo): Promise<void> {
    const { session } = this.#chosen;
    const text = `“${snapshot.name}” can no longer be reverted to. The disk itself stays as it is.`;
    if (!(await confirmed({ title: 'Delete this snapshot?', text, deed: 'Delete', danger: true, left: this.#chosen.left }))) return;
    await this.#work('The snapshot was not deleted', async () => {
      const remove = (): Promise<void> => session.change((disk) => disk.snapshots.delete(snapshot.id));
      const everywhere = (): Promise<void> => deleteEverywhere(session, snapshot, this.#around.find);
      const deed = snapshot.vmStateSize > 0 ? everywhere : remove;
      await (session.held ? this.#around.machine.whilePaused(deed) : deed());
      this.#chosen.messages.success(`Snapshot ${snapshot.name} is deleted`);
    });
  }

  async #work(problem: string, work: () => Promise<void>): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    this.#take.loading = true;
    try {
      await work();
    } catch (error) {
      this.#chosen.messages.error(problem, error);
    }
    this.#busy = false;
    this.#take.loading = false;
  }
}

function nextName(taken: ReadonlySet<string>): string {
  for (let number = taken.size + 1; ; number++) {
    const name = `snapshot ${number}`;
    if (!taken.has(name)) return name;
  }
}
