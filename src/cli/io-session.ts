/**
 * The state that the commands of `io` share: the open image, requests under way, and guest bytes in whole sectors: QEMU rounds the size of a raw
 * file up to a sector, so reads see zeros there and writes extend the file.
 */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { type CacheMode, type Disk, DiskError } from '../index.ts';
import { type Debugger, findDebugger, OptionSet } from '../qemu.ts';
import { Complaint } from './complaint.ts';
import { CannotOpen, Images, type OpenRequest } from './images.ts';
import { wholeSectors } from './sizes.ts';
import { complain, type Terminal } from './terminal.ts';

export interface SessionOpen extends OpenRequest {
  /** -C: bytes that are read are copied from the backing file. */
  readonly copyOnRead?: boolean;
}

export class Session {
  readonly terminal: Terminal;
  #images: Images;
  #disk: Disk | undefined;
  /** How the image was opened. */
  #how: SessionOpen | undefined;
  #pending: Promise<void>[] = [];
  /** Reports of requests that ran beside commands, kept until a command waits for the image: only then QEMU looks for finished requests. */
  #reports: string[] = [];

  constructor(terminal: Terminal) {
    this.terminal = terminal;
    this.#images = new Images(terminal);
  }

  /** The open image, if any. */
  get disk(): Disk | undefined {
    return this.#disk;
  }

  get readOnly(): boolean {
    return this.#how?.readOnly === true || this.#disk?.readOnly === true;
  }

  /** Bytes, in whole sectors. */
  get size(): number {
    return wholeSectors(this.#disk?.size ?? 0);
  }

  /** Opens an image; if it does not open, prints the reason and returns false. */
  async open(request: SessionOpen): Promise<boolean> {
    if (this.#disk) {
      complain(this.terminal, "file open already, try 'help close'");
      return false;
    }
    try {
      await this.#open(request);
      return true;
    } catch (error) {
      if (!(error instanceof CannotOpen)) throw error;
      complain(this.terminal, `can't open${request.nameless ? '' : ` device ${request.path}`}: ${error.message}`);
      await this.#images.close();
      return false;
    }
  }

  async #open(request: SessionOpen): Promise<void> {
    if (request.copyOnRead && request.readOnly) throw new CannotOpen("Can't use copy-on-read on read-only device");
    const { disk } = await this.#images.tryOpen(request);
    this.#disk = disk;
    this.#how = request;
  }

  /**
   * Opens the image again, in another way. If that fails it is opened again as it was, and the reason is thrown as `CannotOpen`. An
   * overlay in memory stays: only its being writable can change.
   */
  async reopen({ options, ...changes }: { readOnly?: boolean; cache?: CacheMode; options: OptionSet }): Promise<void> {
    const before = this.#how;
    if (!before) return;
    // A mode overrides all earlier options about caches.
    const kept = [...(before.options?.entries() ?? [])].filter(([name]) => !changes.cache || !name.startsWith('cache.'));
    const merged = new OptionSet([...kept, ...options.entries()]);
    const after: SessionOpen = { ...before, ...changes, options: merged, again: true };
    if (before.snapshot) {
      this.#how = after;
      return;
    }
    await this.close();
    try {
      await this.#open(after);
    } catch (error) {
      await this.#images.close();
      await this.#open({ ...before, again: true });
      throw error;
    }
  }

  async close(): Promise<void> {
    this.debugger?.release();
    await this.settle();
    this.#disk = undefined;
    this.#how = undefined;
    const images = this.#images;
    this.#images = new Images(this.terminal);
    await images.close();
  }

  /** Breakpoints of the open image, if it lies on a debugging layer. */
  get debugger(): Debugger | undefined {
    return this.#disk && findDebugger(this.#disk);
  }

  /** How many started requests are not done. */
  get started(): number {
    return this.#pending.length;
  }

  /** Lets a request run beside the next commands, as far as it can without waiting. `deliver` shows its output. */
  async start(request: (out: (text: string) => void) => Promise<unknown>): Promise<void> {
    const running: Promise<void> = request((text) => this.#reports.push(text)).then(() => {
      this.#pending = this.#pending.filter((one) => one !== running);
    });
    // The code that waits for all of them gets the failure.
    running.catch(() => undefined);
    this.#pending.push(running);
    await setImmediate();
  }

  /** Shows the output that started requests have made since. */
  deliver(): void {
    for (const text of this.#reports.splice(0)) this.terminal.out(text);
  }

  /** Waits for all started requests. Throws a `Complaint` if one of them waits at a breakpoint. */
  async settle(): Promise<void> {
    while (this.started > 0) {
      const breakpoints = this.debugger;
      if (!breakpoints) await Promise.all(this.#pending);
      else await Promise.race([Promise.all(this.#pending), setTimeout(1)]);
      const [waiting] = breakpoints?.waiting ?? [];
      if (waiting !== undefined && this.started > 0) throw new Complaint(`Request '${waiting}' is suspended: resume it first`);
    }
    this.deliver();
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const disk = this.#require();
    const bytes = new Uint8Array(length);
    if (this.#how?.copyOnRead && offset + length <= this.size) await disk.copyUp(offset, length);
    if (offset + length > this.size) return disk.read(offset, bytes);
    const inside = Math.max(0, Math.min(length, disk.size - offset));
    if (inside > 0) await disk.read(offset, bytes.subarray(0, inside));
    return bytes;
  }

  /** Machine state that lies in the image beside the disk. */
  async readState(offset: number, length: number): Promise<Uint8Array> {
    return this.#require().readVmState(offset, length);
  }

  async writeState(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#require().writeVmState(offset, bytes);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#reach(offset + bytes.length);
    await this.#require().write(offset, bytes);
  }

  /** Whole clusters (the disk's last may be cut off) without data, as in QEMU. */
  async writeCompressed(offset: number, bytes: Uint8Array): Promise<void> {
    const disk = this.#require();
    const unit = (await disk.info())['cluster-size'];
    const whole = unit !== undefined && offset % unit === 0 && (bytes.length % unit === 0 || offset + bytes.length === disk.size);
    // The disk itself refuses a range that is not of whole clusters.
    if (!whole || offset + bytes.length > disk.size) return disk.writeCompressed(offset, bytes);
    for (let at = 0; at < bytes.length; at += unit) {
      const cluster = bytes.subarray(at, at + unit);
      for await (const run of disk.map(offset + at, cluster.length))
        if (run.depth === 0 && run.present && !(run.zero && run.offset === undefined))
          throw new DiskError('io', `The cluster at ${offset + at} holds something already`, { offset: offset + at });
      await disk.writeCompressed(offset + at, cluster);
    }
  }

  async zero(offset: number, length: number, { unmap, fallback }: { unmap: boolean; fallback: boolean }): Promise<void> {
    await this.#reach(offset + length);
    await this.#require().zero(offset, length, { unmap, fallback });
  }

  async discard(offset: number, length: number): Promise<void> {
    const disk = this.#require();
    const inside = offset + length > this.size ? length : Math.max(0, Math.min(length, disk.size - offset));
    await disk.discard(offset, inside);
  }

  #require(): Disk {
    if (!this.#disk) throw new Error('tabdisk: a command ran without an open image');
    return this.#disk;
  }

  /** Extends a raw file to the end of its last sector, if a request ends there. */
  async #reach(end: number): Promise<void> {
    const disk = this.#require();
    if (end > disk.size && end <= this.size && !disk.readOnly) await disk.resize(this.size);
  }
}
