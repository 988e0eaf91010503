/** Internal snapshots of a disk: finding them by id or name, and running each change with nothing else in flight. */
import { check, TEXT } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import type { SnapshotInfo } from '../formats/driver.ts';
import { type DirtyRun, type DirtyRuns, type SnapshotTools, toolsOf } from '../formats/tools.ts';
import { BlockNode } from '../node/node.ts';
import { SNAPSHOT, type SnapshotOptions, VM_STATE_RANGE } from './async-disk.ts';
import { clearVmState, readStored, replaceVmState } from './vm-state.ts';

/** `disk.snapshots`. An argument `idOrName` matches an id first, then a name, as QEMU does. */
export class Snapshots<D = unknown> {
  readonly #node: BlockNode;
  readonly #wrap: (node: BlockNode) => D;
  /** By id: how many disks are open on the snapshot. */
  readonly #opened = new Map<string, number>();

  /** @internal */
  constructor(node: BlockNode, wrap: (node: BlockNode) => D) {
    this.#node = node;
    this.#wrap = wrap;
  }

  /** True if the format has internal snapshots. */
  get supported(): boolean {
    return this.#node.driver.snapshots !== undefined;
  }

  /** True if this image can take snapshots with machine state: its format can, and all of it lies in one file. */
  get possible(): boolean {
    const { driver } = this.#node;
    return driver.snapshots !== undefined && driver.info().vmStateOffset !== undefined && (driver.files ?? []).length === 0;
  }

  /** All snapshots, in the order of the image's table; none where the format has no snapshots. */
  async list(): Promise<SnapshotInfo[]> {
    return [...(this.#node.driver.snapshots ?? [])];
  }

  /** Freezes the disk as it is now. Names may repeat, as in QEMU; the id is unique. Durable when it resolves. */
  async create(options: SnapshotOptions): Promise<SnapshotInfo> {
    check('snapshots.create', 'options', options, SNAPSHOT);
    return runAsync(this.#drained(() => this.#changing((tools) => this.#create(tools, options))));
  }

  /** Runs a change with nothing else in flight. */
  *#changing<T>(body: (tools: SnapshotTools) => Io<T>): Io<T> {
    const node = this.#node;
    return yield* node.exclusive(function* () {
      return yield* body(yield* snapshotsOf(node));
    });
  }

  /** Runs `body` when all bytes written above the disk are in it. */
  *#drained<T>(body: () => Io<T>): Io<T> {
    yield* this.#node.keepers.drain();
    return yield* body();
  }

  /**
   * The machine state of a snapshot, or a part of it, in a new array; bytes that the image does not have read as zero. Throws `refused` for more than
   * 1 GiB at once.
   */
  async readVmState(idOrName: string, range: { offset?: number; length?: number } = {}): Promise<Uint8Array<ArrayBuffer>> {
    check('snapshots.readVmState', 'range', range, VM_STATE_RANGE);
    return runAsync(this.#readVmState(idOrName, range));
  }

  /** Restores the disk's contents; everything since is lost unless another snapshot has it, saved or not. The size may change. */
  apply(idOrName: string): Promise<void> {
    return runAsync(this.#node.keepers.replacing(() => this.#changing((tools) => tools.apply(this.find(idOrName).id))));
  }

  /** Durable when it resolves. */
  async rename(idOrName: string, name: string): Promise<void> {
    check('snapshots.rename', 'name', name, TEXT);
    return runAsync(this.#changing((tools) => tools.rename(this.find(idOrName).id, name)));
  }

  /** Bytes kept above the disk stay there: no snapshot has them, and deleting must work where there is no room to save them. */
  delete(idOrName: string): Promise<void> {
    return runAsync(this.#changing((tools) => this.#delete(tools, this.find(idOrName))));
  }

  /** The snapshot's contents as a read-only disk. It must be closed before the disk is. */
  open(idOrName: string): Promise<D> {
    return runAsync(this.#open(idOrName));
  }

  /**
   * Guest bytes that may read differently than in the snapshot, by whole clusters and in order; found by comparing the image's own tables, so all
   * changes since are included, by any program. Bytes written meanwhile may be included or not. Throws `unsupported` if the format cannot tell.
   */
  async *changes(idOrName: string): AsyncIterableIterator<DirtyRun> {
    const { id } = this.find(idOrName);
    this.#hold(id);
    try {
      const runs = await runAsync(this.#drained(() => this.#changes(id)));
      let run = await runAsync(runs.next(0));
      while (run) {
        yield run;
        run = await runAsync(runs.next(run.start + run.length));
      }
    } finally {
      this.#letGo(id);
    }
  }

  /** @internal The same inside coroutines: the snapshot stays until `work` is over. */
  *comparing<T>(idOrName: string, work: (changes: DirtyRuns) => Io<T>): Io<T> {
    const { id } = this.find(idOrName);
    this.#hold(id);
    try {
      return yield* work(yield* this.#drained(() => this.#changes(id)));
    } finally {
      this.#letGo(id);
    }
  }

  *#create(
    tools: SnapshotTools,
    { name, date = new Date(), vmState, vmStateSize = vmState?.length ?? 0, ...moment }: SnapshotOptions,
  ): Io<SnapshotInfo> {
    if (!vmState) return yield* tools.create({ name, date, vmStateSize, ...moment });
    try {
      yield* replaceVmState(this.#node, vmState);
      return yield* tools.create({ name, date, vmStateSize, ...moment });
    } catch (error) {
      yield* clearVmState(this.#node);
      throw error;
    }
  }

  *#readVmState(idOrName: string, range: { offset?: number; length?: number }): Io<Uint8Array<ArrayBuffer>> {
    const { id, vmStateSize } = this.find(idOrName);
    const driver = yield* (yield* snapshotsOf(this.#node)).view(id);
    return yield* readStored(new BlockNode({ driver, readOnly: true, owned: false }), vmStateSize, range);
  }

  #delete(tools: SnapshotTools, { id, name }: SnapshotInfo): Io<void> {
    if (this.#opened.get(id)) throw new DiskError('in-use', `The snapshot "${name}" is open: close it before deleting it`, { field: 'snapshot' });
    return tools.delete(id);
  }

  *#open(idOrName: string): Io<D> {
    const { id } = this.find(idOrName);
    const driver = yield* (yield* snapshotsOf(this.#node)).view(id);
    const { backing } = this.#node;
    this.#hold(id);
    const onClose = () => this.#letGo(id);
    return this.#wrap(new BlockNode({ driver, ...(backing ? { backing } : {}), readOnly: true, owned: false, onClose }));
  }

  *#changes(id: string): Io<DirtyRuns> {
    const tools = yield* snapshotsOf(this.#node);
    if (!tools.changes) throw new DiskError('unsupported', `${this.#node.driver.format}: this format cannot tell what changed since a snapshot`);
    return yield* tools.changes(id);
  }

  /** Keeps a snapshot that is being read from being deleted. */
  #hold(id: string): void {
    this.#opened.set(id, (this.#opened.get(id) ?? 0) + 1);
  }

  #letGo(id: string): void {
    this.#opened.set(id, (this.#opened.get(id) ?? 1) - 1);
  }

  /** @internal The snapshot of this id, or else of this name. Throws `not-found`. */
  find(idOrName: string): SnapshotInfo {
    check('disk.snapshots', 'idOrName', idOrName, TEXT);
    const list = this.#node.driver.snapshots;
    if (!list) throw unsupported(this.#node);
    const found = list.find(({ id }) => id === idOrName) ?? list.find(({ name }) => name === idOrName);
    if (!found) throw new DiskError('not-found', `There is no snapshot "${idOrName}"`, { field: 'snapshot' });
    return found;
  }
}

/** The verbs that change the snapshots of a node. Throws `unsupported` if its format has none. */
function* snapshotsOf(node: BlockNode): Io<SnapshotTools> {
  const { snapshots } = yield* toolsOf(node.driver);
  if (!snapshots) throw unsupported(node);
  return snapshots;
}

function unsupported({ driver: { format } }: BlockNode): DiskError {
  return new DiskError('unsupported', `${format}: this format has no internal snapshots`, { format });
}
