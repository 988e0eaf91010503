/**
 * What the commands of `io` share: the open image, requests under way, and guest bytes in whole sectors: QEMU rounds the size of a raw
 * file up to a sector, so reads see zeros there and writes extend the file.
 */
import { createDisk, type Disk, memoryStorage } from '../index.ts';
import { CannotOpen, Images, type OpenRequest } from './images.ts';
import { wholeSectors } from './sizes.ts';
import { complain, type Terminal } from './terminal.ts';

export interface SessionOpen extends OpenRequest {
  /** Writes go to memory and are forgotten. */
  readonly snapshot?: boolean;
  /** Discards and unmaps reach the image. */
  readonly unmap: boolean;
}

export class Session {
  readonly terminal: Terminal;
  #images: Images;
  #disk: Disk | undefined;
  #unmap = true;
  #pending: Promise<void>[] = [];

  constructor(terminal: Terminal) {
    this.terminal = terminal;
    this.#images = new Images(terminal);
  }

  /** The open image, if any. */
  get disk(): Disk | undefined {
    return this.#disk;
  }

  /** Bytes, in whole sectors. */
  get size(): number {
    return wholeSectors(this.#disk?.size ?? 0);
  }

  /** Opens an image; returns false, after saying why, if it does not open. */
  async open(request: SessionOpen): Promise<boolean> {
    if (this.#disk) {
      complain(this.terminal, "file open already, try 'help close'");
      return false;
    }
    try {
      const { disk } = await this.#images.tryOpen(request.snapshot ? { ...request, readOnly: true } : request);
      this.#disk = request.snapshot ? await this.#overlay(disk, request.path) : disk;
      this.#unmap = request.unmap;
      return true;
    } catch (error) {
      if (!(error instanceof CannotOpen)) throw error;
      complain(this.terminal, `can't open device ${request.path}: ${error.message}`);
      await this.#images.close();
      return false;
    }
  }

  async close(): Promise<void> {
    await this.settle();
    this.#disk = undefined;
    const images = this.#images;
    this.#images = new Images(this.terminal);
    await images.close();
  }

  /** Lets a request run beside the next commands. */
  start(request: Promise<void>): void {
    this.#pending.push(request);
  }

  /** Waits for all that were started. */
  async settle(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const disk = this.#require();
    const bytes = new Uint8Array(length);
    if (offset + length > this.size) return disk.read(offset, bytes);
    const inside = Math.max(0, Math.min(length, disk.size - offset));
    if (inside > 0) await disk.read(offset, bytes.subarray(0, inside));
    return bytes;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#reach(offset + bytes.length);
    await this.#require().write(offset, bytes);
  }

  async zero(offset: number, length: number, unmap: boolean): Promise<void> {
    await this.#reach(offset + length);
    await this.#require().zero(offset, length, { unmap: unmap && this.#unmap });
  }

  async discard(offset: number, length: number): Promise<void> {
    const disk = this.#require();
    const inside = offset + length > this.size ? length : Math.max(0, Math.min(length, disk.size - offset));
    if (this.#unmap || offset + inside > disk.size) await disk.discard(offset, inside);
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

  /** A disk in memory over this one. */
  async #overlay(below: Disk, path: string): Promise<Disk> {
    const disk = await createDisk(memoryStorage({ name: path }), {
      format: 'qcow2',
      size: wholeSectors(below.size),
      backing: { name: path, format: 'raw' },
      resolve: () => below.storage,
    });
    this.#images.adopt(disk, path);
    return disk;
  }
}
