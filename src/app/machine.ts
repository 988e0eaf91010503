/**
 * The one machine of this page: v86 with disks of the library. It holds its images for writing from start to stop. When a disk
 * cannot be written the machine pauses and says why; the adapter keeps what it could not save until a retry works.
 */
import type { V86, V86Image, V86Options } from 'v86';
import { loadV86Machine, saveV86Machine } from '../adapters/v86.ts';
import type { ImageEntry, MachineMoment } from '../index.ts';
import { Signal } from './dom.ts';
import { Attached, isRemovable, type RemovableSlot, type Slot } from './drives.ts';
import type { GuestFiles } from './guest-files.ts';
import { savedSettings } from './machine-snapshots.ts';
import type { ImageSession } from './session.ts';
import { loadV86 } from './v86-code.ts';

export interface MachineSettings {
  readonly boot: 'guest' | 'disk';
  /** MiB. */
  readonly memory: number;
  readonly images: Readonly<Partial<Record<Slot, ImageSession>>>;
  /** What the guest writes is thrown away when the machine stops. */
  readonly temporary: boolean;
}

/** `still`: it stands still while a snapshot is taken or brought back. */
export type MachineState = 'off' | 'starting' | 'running' | 'paused' | 'still' | 'stopping';

const MiB = 1024 * 1024;
/** BIOS boot orders as v86 numbers them: hard disk, CD, floppy; and with the CD or the floppy before. */
const BOOT_ORDER = { disk: 0x132, cdrom: 0x213, floppy: 0x321 };

export class Machine {
  readonly changed = new Signal<void>();
  readonly serial = new Signal<number>();
  /** What the guest wrote is in its images now. */
  readonly saved = new Signal<void>();
  /** Bytes moved by an IDE request; the busy light. */
  readonly activity = new Signal<void>();
  /** Where v86 draws. A new child for each start. */
  readonly screen: HTMLElement;
  readonly #files: GuestFiles;
  #state: MachineState = 'off';
  #emulator: V86 | undefined;
  #drives: Attached[] = [];
  #settings: MachineSettings | undefined;
  #main: ImageEntry | undefined;
  #temporary = false;
  #problem: unknown;
  #giveUp: (() => void) | undefined;
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

  /** Why the machine paused by itself; undefined if it did not. */
  get problem(): unknown {
    return this.#problem;
  }

  /** Bytes the guest moved by IDE since the start. */
  get traffic(): { readonly read: number; readonly written: number } {
    return { read: this.#readBytes, written: this.#writtenBytes };
  }

  /** Bytes that the guest wrote and no disk has safely yet. */
  get unsavedBytes(): number {
    return this.#drives.reduce((total, drive) => total + drive.unsavedBytes, 0);
  }

  /** What the guest writes is thrown away when it stops. */
  get temporary(): boolean {
    return this.#temporary;
  }

  /** Its drives, while there is one. */
  get drives(): readonly Attached[] {
    return this.#drives;
  }

  /** Puts another medium into a drive of a running machine, or none. What the guest wrote to the old one is saved first; if the new one fails the drive is empty. */
  async change(removable: RemovableSlot, session: ImageSession | undefined): Promise<void> {
    const drive = this.#drives.find(({ slot }) => slot === removable);
    if (drive === undefined || drive.session === session) return;
    try {
      if (drive.session !== undefined) await drive.eject();
      if (session !== undefined) await drive.insert(session);
    } finally {
      this.changed.emit();
    }
  }

  /** Opens the images, loads v86 and the BIOS, and starts: from a snapshot, if there is one. Leaves nothing open if it throws. */
  async start(settings: MachineSettings, snapshot?: MachineMoment): Promise<void> {
    if (this.#state !== 'off') throw new Error('A machine is running already; stop it first.');
    this.#problem = undefined;
    this.#readBytes = 0;
    this.#writtenBytes = 0;
    this.#settings = settings;
    this.#main = (settings.images.hda ?? settings.images.fda)?.entry;
    this.#temporary = settings.temporary;
    this.#become('starting');
    try {
      for (const slot of ['hda', 'hdb', 'cdrom', 'fda'] as const) {
        const session = settings.images[slot];
        // v86 always has a CD and a floppy drive, and their media can come later.
        if (session !== undefined || isRemovable(slot)) await this.#attach(slot, session);
      }
      const [{ V86, wasm }, options] = await Promise.all([loadV86(), this.#options(settings)]);
      await this.#boot(new V86({ ...options, wasm_fn: wasm }), snapshot);
    } catch (error) {
      await this.#letGo();
      throw error;
    }
  }

  /** Stops the guest's clock. */
  async pause(): Promise<void> {
    if (this.#state !== 'running') return;
    await this.#emulator?.stop();
    this.#become('paused');
    await this.save();
  }

  /** Saves what a failure left behind, then goes on. Throws if it still cannot be saved. */
  async resume(): Promise<void> {
    if (this.#state !== 'paused') return;
    if (this.#problem !== undefined) await Promise.all(this.#drives.map((drive) => drive.recover()));
    this.#problem = undefined;
    await this.#emulator?.run();
    this.#become('running');
  }

  /** The reset button: the guest starts over without shutting down. */
  reset(): void {
    this.#emulator?.restart();
  }

  /** Brings everything the guest wrote to the images. */
  async save(): Promise<void> {
    await Promise.all(this.#drives.map((drive) => drive.save()));
    this.changed.emit();
  }

  /** Runs `work` while the guest stands still. */
  async whilePaused<T>(work: () => Promise<T>): Promise<T> {
    const running = this.#state === 'running';
    if (running) await this.#emulator?.stop();
    try {
      return await work();
    } finally {
      if (running && this.#problem === undefined) await this.#emulator?.run();
      else if (running) this.#become('paused');
    }
  }

  /** The settings of the machine that is on, with what is in its drives now. */
  get settings(): MachineSettings | undefined {
    const images = Object.fromEntries(this.#drives.flatMap(({ slot, session }) => (session ? [[slot, session]] : [])));
    return this.#settings && { ...this.#settings, images };
  }

  /** Whether there is a machine whose memory can be kept with its disks. */
  get alive(): boolean {
    return !this.#temporary && (this.#state === 'running' || this.#state === 'paused');
  }

  /** Keeps all disks and the memory under a name, in place of what has it. */
  async takeSnapshot(name: string): Promise<void> {
    await this.#still(async (emulator, settings) => {
      await saveV86Machine(emulator, this.#devices(), { name, settings: savedSettings(settings) });
    });
  }

  /** Brings the disks and the memory back. If that fails half-way the machine is switched off. */
  async revert(snapshot: MachineMoment): Promise<void> {
    await this.#still(async (emulator) => {
      let begun = false;
      const onRevert = (): void => {
        begun = true;
      };
      try {
        await loadV86Machine(emulator, this.#devices(), snapshot, { onRevert });
        this.#problem = undefined;
        for (const { drive } of this.#drives) drive.resume();
      } catch (error) {
        if (begun) await this.#letGo();
        throw error;
      }
    });
  }

  /** Runs `work` with the guest standing still and nobody else at the controls. */
  async #still(work: (emulator: V86, settings: MachineSettings) => Promise<void>): Promise<void> {
    const emulator = this.#emulator;
    const { settings } = this;
    if (!this.alive || emulator === undefined || settings === undefined) throw new Error('There is no machine whose memory could be kept.');
    const before = this.#state;
    this.#become('still');
    try {
      await work(emulator, settings);
    } finally {
      // Switched off after a failure, else as before; unless a disk failed meanwhile.
      if (this.#emulator === emulator) {
        if (this.#problem !== undefined) await emulator.stop();
        this.#become(this.#problem === undefined ? before : 'paused');
      }
      for (const session of new Set(Object.values(settings.images))) session.changed.emit();
    }
  }

  #devices(): Attached['device'][] {
    return this.#drives.map(({ device }) => device);
  }

  /** Switches off: saves, then closes the images. With `abandon`, what cannot be saved is given up. */
  async stop({ abandon = false }: { abandon?: boolean } = {}): Promise<void> {
    if (this.#state === 'off' || this.#state === 'stopping') return;
    if (this.#state === 'starting') return this.#giveUp?.();
    if (this.#state === 'still') throw new Error('A snapshot of the machine is being taken or brought back: wait until it is done.');
    this.#become('stopping');
    await this.#emulator?.stop();
    try {
      await this.save();
    } catch (error) {
      if (!abandon) {
        this.#problem = error;
        this.#become('paused');
        throw error;
      }
    }
    await this.#letGo();
  }

  /** Sends text to the guest's first serial port. */
  type(text: string): void {
    this.#emulator?.serial0_send(text);
  }

  /** Whether keys and the mouse go to the guest. */
  capture(captured: boolean): void {
    // Not in v86's type declarations: they stop and start its listeners on the whole window.
    const inputs = this.#emulator as { keyboard_set_enabled?(on: boolean): void; mouse_set_enabled?(on: boolean): void } | undefined;
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

  async #options({ boot, memory, images }: MachineSettings): Promise<V86Options> {
    const parts = await this.#files.load(boot);
    if (parts.bios === undefined || parts.vgaBios === undefined) throw new Error('There is no BIOS to start with: choose one under Run.');
    const order = images.cdrom !== undefined ? BOOT_ORDER.cdrom : images.fda !== undefined ? BOOT_ORDER.floppy : BOOT_ORDER.disk;
    const disks = Object.fromEntries(this.#drives.flatMap(({ slot, image }) => (image ? [[slot, image as unknown as V86Image]] : [])));
    return {
      memory_size: memory * MiB,
      vga_memory_size: 8 * MiB,
      bios: { buffer: parts.bios },
      vga_bios: { buffer: parts.vgaBios },
      ...(parts.kernel === undefined ? {} : { bzimage: { buffer: parts.kernel }, cmdline: this.#files.cmdline }),
      ...(parts.initrd === undefined ? {} : { initrd: { buffer: parts.initrd } }),
      ...disks,
      boot_order: order,
      screen: { container: this.#newScreen() },
      disable_speaker: true,
      autostart: false,
    };
  }

  #newScreen(): HTMLElement {
    const frame = document.createElement('div');
    frame.append(document.createElement('div'), document.createElement('canvas'));
    this.screen.replaceChildren(frame);
    return frame;
  }

  async #boot(emulator: V86, snapshot: MachineMoment | undefined): Promise<void> {
    this.#emulator = emulator;
    // v86 reports no failure on its way here: it never becomes ready, and the user gives up by stopping.
    await new Promise<void>((ready, giveUp) => {
      this.#giveUp = () => giveUp(new DOMException('The start was called off', 'AbortError'));
      emulator.add_listener('emulator-ready', () => ready());
    });
    this.#giveUp = undefined;
    for (const drive of this.#drives) drive.connect(emulator);
    emulator.add_listener('serial0-output-byte', (byte) => this.serial.emit(byte));
    emulator.add_listener('ide-read-start', () => this.activity.emit());
    emulator.add_listener('ide-read-end', ([, bytes]) => {
      this.#readBytes += bytes;
      this.activity.emit();
    });
    emulator.add_listener('ide-write-end', ([, bytes]) => {
      this.#writtenBytes += bytes;
      this.activity.emit();
    });
    this.capture(false);
    if (snapshot) await loadV86Machine(emulator, this.#devices(), snapshot);
    await emulator.run();
    this.#become(this.#problem === undefined ? 'running' : 'paused');
  }

  async #letGo(): Promise<void> {
    const emulator = this.#emulator;
    const drives = this.#drives;
    this.#emulator = undefined;
    this.#drives = [];
    try {
      await emulator?.destroy();
    } finally {
      await Promise.allSettled(drives.map((drive) => drive.detach()));
      this.#main = undefined;
      this.#settings = undefined;
      this.#problem = undefined;
      this.#become('off');
    }
  }

  #become(state: MachineState): void {
    this.#state = state;
    this.changed.emit();
  }
}
