/**
 * The one machine of this page: v86 with disks of the library. It holds its images for writing from start to stop. When a disk
 * cannot be written the machine pauses and says why; the adapter keeps unsaved bytes until a retry works.
 *
 * A restart, by the reset button or by the guest, makes the emulator anew with the same settings and disks: unsaved bytes stay in the adapter above the
 * disks. A guest that halts its processor for good, or whose emulator dies, is switched off as if the user had pressed Stop: its writes are
 * saved, its images are free, and `end` says how it ended.
 */
import type { V86 } from 'v86';
import { loadV86Machine, saveV86Machine } from '../adapters/v86.ts';
import { DiskError, type ImageEntry, type MachineMoment } from '../index.ts';
import { Signal } from './dom.ts';
import { Attached, isRemovable, type RemovableSlot, type Slot } from './drives.ts';
import { Emulator } from './emulator.ts';
import type { GuestFiles } from './guest-files.ts';
import { loadParts, type MachineParts, v86Options } from './machine-options.ts';
import type { MachineSettings } from './machine-settings.ts';
import { savedSettings } from './machine-snapshots.ts';
import type { ImageSession } from './session.ts';
import { settledWithin, unless } from './waiting.ts';

/** `still`: it stands still while a snapshot is taken or restored. */
export type MachineState = 'off' | 'starting' | 'running' | 'paused' | 'still' | 'restarting' | 'stopping';

/** How a machine ended, unless the user stopped it without a problem. */
export interface MachineEnd {
  /** The image that it was started on. */
  readonly image: ImageEntry | undefined;
  /** The guest halted its processor for good; the emulator died; or the machine was given up with disks that did not answer, and may still be in use. */
  readonly how: 'halt' | 'crash' | 'left';
  /** The error of a crash. */
  readonly error?: unknown;
  /** The guest's writes were thrown away; else they are saved. */
  readonly temporary: boolean;
}

/** The next step of the machine, as soon as no other operation runs on it. */
type Fate = { readonly how: 'restart' | 'halt' } | { readonly how: 'crash'; readonly error: unknown };

/** Milliseconds in which the disks of a machine that is given up must be closed. */
const LAST_WAIT = 5000;

export class Machine {
  readonly changed = new Signal<void>();
  readonly serial = new Signal<number>();
  /** A remark about a medium, a sentence without its full stop. */
  readonly remarked = new Signal<string>();
  /** The guest's writes are in its images now. */
  readonly saved = new Signal<void>();
  /** Bytes moved by an IDE request; the busy light. */
  readonly activity = new Signal<void>();
  /** The element in which v86 draws. A new child for each start. */
  readonly screen: HTMLElement;
  readonly #files: GuestFiles;
  #state: MachineState = 'off';
  #emulator: Emulator | undefined;
  #drives: Attached[] = [];
  #settings: MachineSettings | undefined;
  #parts: MachineParts | undefined;
  #main: ImageEntry | undefined;
  #temporary = false;
  #problem: unknown;
  #fate: Fate | undefined;
  #end: MachineEnd | undefined;
  /** Calls off the start or the restart under way. */
  #calledOff = new AbortController();
  /** Gives up unsaved bytes, and waiting for disks that do not answer. */
  #givenUp = new AbortController();
  /** The stop under way. */
  #stopping: Promise<void> | undefined;
  /** The exchange of a medium under way. */
  #changing: Promise<unknown> = Promise.resolve();
  #readBytes = 0;
  #writtenBytes = 0;

  constructor(files: GuestFiles, screen: HTMLElement) {
    this.#files = files;
    this.screen = screen;
  }

  get state(): MachineState {
    return this.#state;
  }

  /** The image the machine was started on, while there is one. */
  get image(): ImageEntry | undefined {
    return this.#main;
  }

  /** The reason why the machine paused by itself; undefined if it did not. */
  get problem(): unknown {
    return this.#problem;
  }

  /** How the latest machine ended, if there was a problem and no other machine runs. */
  get end(): MachineEnd | undefined {
    return this.#end;
  }

  /** Bytes the guest moved by IDE since the start. */
  get traffic(): { readonly read: number; readonly written: number } {
    return { read: this.#readBytes, written: this.#writtenBytes };
  }

  /** Bytes that the guest wrote and that are not saved on any disk yet. */
  get unsavedBytes(): number {
    return this.#drives.reduce((total, drive) => total + drive.unsavedBytes, 0);
  }

  /** The guest's writes are thrown away when it stops. */
  get temporary(): boolean {
    return this.#temporary;
  }

  /** Its drives, while there is one. */
  get drives(): readonly Attached[] {
    return this.#drives;
  }

  /** Puts another medium into a drive of a running machine, or none. Writes to the old one are saved first; if the new one fails the drive is empty. */
  async change(removable: RemovableSlot, session: ImageSession | undefined): Promise<void> {
    const drive = this.#drives.find(({ slot }) => slot === removable);
    if (drive === undefined || drive.session === session || this.#state !== 'running') return;
    const change = async (): Promise<void> => {
      if (drive.session !== undefined) await drive.eject();
      if (session !== undefined) await drive.insert(session);
    };
    const changing = change();
    this.#changing = changing.catch(() => undefined);
    try {
      await changing;
    } finally {
      this.changed.emit();
    }
  }

  /** Opens the images, loads v86 and the BIOS, and starts: from a snapshot, if there is one. Leaves nothing open if it throws. */
  async start(settings: MachineSettings, snapshot?: MachineMoment): Promise<void> {
    if (this.#state !== 'off') throw new Error('A machine is running already; stop it first.');
    this.#problem = undefined;
    this.#end = undefined;
    this.#readBytes = 0;
    this.#writtenBytes = 0;
    this.#settings = settings;
    this.#main = (settings.main ?? settings.images.hda ?? settings.images.fda)?.entry;
    this.#temporary = settings.temporary;
    this.#calledOff = new AbortController();
    this.#become('starting');
    const { signal } = this.#calledOff;
    try {
      for (const slot of ['hda', 'hdb', 'cdrom', 'fda'] as const) {
        const session = settings.images[slot];
        // v86 always has a CD and a floppy drive, and their media can come later.
        if (session !== undefined || isRemovable(slot)) await unless(signal, this.#attach(slot, session));
      }
      await this.#boot(settings, signal, snapshot);
    } catch (error) {
      // The `stop` that cancelled it lets go of everything.
      if (!signal.aborted) await this.#letGo();
      throw error;
    }
    await this.#meetFate();
  }

  /** Stops the guest's clock. */
  async pause(): Promise<void> {
    if (this.#state !== 'running') return;
    await this.#emulator?.stop();
    if (this.#state !== 'running') return;
    this.#become('paused');
    await this.save();
  }

  /** Saves the bytes that a failure left unsaved, then goes on. Throws if they still cannot be saved. */
  async resume(): Promise<void> {
    if (this.#state !== 'paused') return;
    await this.#recover();
    if (this.#state !== 'paused') return;
    if (this.#fate === undefined) await this.#emulator?.run();
    this.#become('running');
    await this.#meetFate();
  }

  /**
   * The reset button: the guest starts over without shutting down, with the disks that are in the drives now. Throws, and leaves the machine paused, if
   * the guest's writes cannot be saved.
   */
  async reset(): Promise<void> {
    if (this.#state === 'running' || this.#state === 'paused') await this.#restart();
  }

  /** Saves all writes of the guest in the images. */
  async save(): Promise<void> {
    await Promise.all(this.#drives.map((drive) => drive.save()));
    this.changed.emit();
  }

  /** Runs `work` while the guest stands still. */
  async whilePaused<T>(work: () => Promise<T>): Promise<T> {
    const running = this.#state === 'running';
    const emulator = this.#emulator;
    if (running) await emulator?.stop();
    try {
      return await work();
    } finally {
      // Goes on unless it was stopped or restarted meanwhile.
      if (running && this.#state === 'running' && this.#emulator === emulator) {
        if (this.#problem === undefined) await emulator?.run();
        else this.#become('paused');
      }
    }
  }

  /** The settings of the machine that is on, with the present images of its drives. */
  get settings(): MachineSettings | undefined {
    const images = Object.fromEntries(this.#drives.flatMap(({ slot, session }) => (session ? [[slot, session]] : [])));
    return this.#settings && { ...this.#settings, images };
  }

  /** Whether there is a machine whose memory can be kept with its disks. */
  get alive(): boolean {
    return !this.#temporary && (this.#state === 'running' || this.#state === 'paused') && this.#fate === undefined;
  }

  /** Saves all disks and the memory under a name, in place of a snapshot of that name. */
  async takeSnapshot(name: string): Promise<void> {
    await this.#still(async (emulator, settings) => {
      await saveV86Machine(emulator, this.#devices(), { name, settings: savedSettings(settings) });
    });
  }

  /** Restores the disks and the memory. If that fails half-way the machine is switched off. */
  async revert(snapshot: MachineMoment): Promise<void> {
    await this.#still(async (emulator) => {
      let begun = false;
      const onRevert = (): void => {
        begun = true;
      };
      try {
        await loadV86Machine(emulator, this.#devices(), snapshot, { onRevert });
        this.#problem = undefined;
        this.#fate = undefined;
        for (const { drive } of this.#drives) drive.resume();
      } catch (error) {
        if (begun) await this.#letGo();
        throw error;
      }
    });
  }

  /** Runs `work` with the guest standing still and no other operation on the machine. */
  async #still(work: (emulator: V86, settings: MachineSettings) => Promise<void>): Promise<void> {
    const emulator = this.#emulator;
    const { settings } = this;
    if (!this.alive || emulator === undefined || settings === undefined) throw new Error('There is no machine whose memory could be kept.');
    const before = this.#state;
    this.#become('still');
    try {
      await emulator.stop();
      if (!emulator.alive) throw new Error('The machine has just crashed.');
      await work(emulator.v86, settings);
    } finally {
      // The machine is off after a failure, else as before; unless a disk failed meanwhile.
      if (this.#emulator === emulator) {
        const goesOn = before === 'running' && this.#problem === undefined;
        if (goesOn && this.#fate === undefined) await emulator.run();
        this.#become(goesOn ? 'running' : 'paused');
      }
      for (const session of new Set(Object.values(settings.images))) session.changed.emit();
      await this.#meetFate();
    }
  }

  #devices(): Attached['device'][] {
    return this.#drives.map(({ device }) => device);
  }

  /**
   * Switches off: saves, then closes the images; a start or restart under way is cancelled. Throws, and leaves the machine paused, if something cannot be
   * saved. With `abandon`, also of a stop under way, unsaved bytes are given up, and disks that do not answer are left behind.
   */
  async stop({ abandon = false }: { abandon?: boolean } = {}): Promise<void> {
    if (this.#state === 'off') return;
    if (this.#state === 'still') throw new Error('A snapshot of the machine is being taken or brought back: wait until it is done.');
    this.#stopping ??= this.#switchOff();
    if (abandon) this.#givenUp.abort();
    await this.#stopping;
  }

  async #switchOff(): Promise<void> {
    this.#givenUp = new AbortController();
    this.#become('stopping');
    this.#calledOff.abort(new DiskError('aborted', 'The machine was stopped'));
    const { signal } = this.#givenUp;
    try {
      await this.#emulator?.stop();
      if (!this.#temporary) await unless(signal, this.save());
    } catch (error) {
      if (!signal.aborted) {
        this.#stopping = undefined;
        this.#problem = error;
        this.#become('paused');
        throw error;
      }
    }
    await this.#letGo().finally(() => {
      this.#stopping = undefined;
    });
  }

  /** Sends text to the guest's first serial port. */
  type(text: string): void {
    this.#emulator?.v86.serial0_send(text);
  }

  /** Whether keys and the mouse go to the guest. */
  capture(captured: boolean): void {
    // Not in v86's type declarations: they stop and start its listeners on the whole window.
    const inputs = this.#emulator?.v86 as { keyboard_set_enabled?(on: boolean): void; mouse_set_enabled?(on: boolean): void } | undefined;
    inputs?.keyboard_set_enabled?.(captured);
    inputs?.mouse_set_enabled?.(captured);
  }

  async #attach(slot: Slot, session: ImageSession | undefined): Promise<void> {
    const drive = new Attached(slot, {
      temporary: this.#temporary,
      onSaved: () => {
        this.saved.emit();
        this.changed.emit();
      },
      onProblem: (error) => void this.#trouble(error),
      onRemark: (remark) => this.remarked.emit(remark),
    });
    this.#drives.push(drive);
    if (session !== undefined) await drive.insert(session);
  }

  async #trouble(error: unknown): Promise<void> {
    if (this.#problem !== undefined) return;
    this.#problem = error;
    await this.#emulator?.stop();
    if (this.#state === 'running') this.#become('paused');
    else this.changed.emit();
  }

  /** Repeats failed requests, if there are any. */
  async #recover(): Promise<void> {
    if (this.#problem === undefined) return;
    await Promise.all(this.#drives.map((drive) => drive.recover()));
    this.#problem = undefined;
  }

  /** The emulator reports an action of the guest, or its own death: handled at once, or by the operation that runs on the machine. */
  #befall(fate: Fate): void {
    this.#fate ??= fate;
    void this.#meetFate();
  }

  async #meetFate(): Promise<void> {
    if (this.#fate === undefined || this.#state !== 'running') return;
    try {
      await (this.#fate.how === 'restart' ? this.#restart() : this.stop());
    } catch {
      // The machine is paused because a disk fails, and shows that. The step waits until that is over.
    }
  }

  /** Makes the emulator anew. The old one is kept until all its requests to the disks have ended: it may wait for reads. */
  async #restart(): Promise<void> {
    const emulator = this.#emulator;
    this.#calledOff = new AbortController();
    const { signal } = this.#calledOff;
    this.#fate = { how: 'restart' };
    this.#become('restarting');
    try {
      await unless(signal, this.#settle(emulator));
    } catch (error) {
      if (signal.aborted) return;
      this.#problem ??= error;
      this.#become('paused');
      throw error;
    }
    const { settings } = this;
    try {
      this.#emulator = undefined;
      await emulator?.destroy();
      signal.throwIfAborted();
      this.#fate = undefined;
      if (settings) await this.#boot(settings, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#fate = { how: 'crash', error };
      await this.#letGo();
    }
    await this.#meetFate();
  }

  async #settle(emulator: Emulator | undefined): Promise<void> {
    await emulator?.stop();
    await this.#changing;
    await this.#recover();
    await Promise.all(this.#drives.map(({ device }) => device.settle()));
  }

  async #boot(settings: MachineSettings, calledOff: AbortSignal, snapshot?: MachineMoment): Promise<void> {
    this.#parts ??= await unless(calledOff, loadParts(settings.boot, this.#files));
    const options = { ...v86Options(settings, this.#parts, this.#drives), screen: { container: this.#newScreen() } };
    const events = {
      halted: () => this.#befall({ how: 'halt' }),
      restarting: () => this.#befall({ how: 'restart' }),
      died: (error: unknown) => this.#befall({ how: 'crash', error }),
    };
    const emulator = await Emulator.make(new this.#parts.V86(options), events, calledOff);
    this.#emulator = emulator;
    const { v86 } = emulator;
    for (const drive of this.#drives) drive.connect(v86);
    v86.add_listener('serial0-output-byte', (byte) => this.serial.emit(byte));
    v86.add_listener('ide-read-start', () => this.activity.emit());
    v86.add_listener('ide-read-end', ([, bytes]) => {
      this.#readBytes += bytes;
      this.activity.emit();
    });
    v86.add_listener('ide-write-end', ([, bytes]) => {
      this.#writtenBytes += bytes;
      this.activity.emit();
    });
    this.capture(document.activeElement === this.screen);
    if (snapshot) await unless(calledOff, loadV86Machine(v86, this.#devices(), snapshot));
    if (this.#problem === undefined) await emulator.run();
    this.#become(this.#problem === undefined ? 'running' : 'paused');
  }

  #newScreen(): HTMLElement {
    const frame = document.createElement('div');
    frame.append(document.createElement('div'), document.createElement('canvas'));
    this.screen.replaceChildren(frame);
    return frame;
  }

  /** Lets go of everything. Waits for the disks until they are closed; once they are given up, only for a short time. */
  async #letGo(): Promise<void> {
    const emulator = this.#emulator;
    const abandoned = this.#givenUp.signal;
    this.#emulator = undefined;
    await emulator?.destroy();
    const closed = await settledWithin(Promise.allSettled(this.#drives.map((drive) => drive.detach())), LAST_WAIT, abandoned);
    const fate = this.#fate;
    const ended = { image: this.#main, temporary: this.#temporary };
    if (!closed) this.#end = { ...ended, how: 'left' };
    else if (fate !== undefined && fate.how !== 'restart' && !abandoned.aborted) this.#end = { ...ended, ...fate, how: fate.how };
    this.#drives = [];
    this.#main = undefined;
    this.#settings = undefined;
    this.#parts = undefined;
    this.#problem = undefined;
    this.#fate = undefined;
    this.#givenUp = new AbortController();
    this.#become('off');
  }

  #become(state: MachineState): void {
    this.#state = state;
    this.changed.emit();
  }
}
