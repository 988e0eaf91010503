/** An image of the library that is open: its disk, and what must happen when it is closed. */
import { DiskError } from '../base/errors.ts';
import { runAsync } from '../base/io.ts';
import type { Disk } from '../disk/disk.ts';
import type { ImageRecord } from './catalogue.ts';

/** An open image: use its `disk`, and close the image, not the disk. */
export class OpenImage {
  readonly id: string;
  readonly disk: Disk;
  readonly #storage: Disk['node']['driver']['storage'];
  readonly #closed: (size: number, changed: boolean) => Promise<void>;
  #changed = false;
  #closing: Promise<void> | undefined;

  /** @internal Use `Library.openImage`. `closed` gives the lock back. */
  constructor(disk: Disk, record: ImageRecord, closed: (size: number, changed: boolean) => Promise<void>) {
    this.id = record.id;
    this.disk = disk;
    this.#storage = disk.node.driver.storage;
    this.#closed = closed;
  }

  /** Remembers that the guest has changed something, for the list's "changed" time. */
  noteChange(): void {
    this.#changed = true;
  }

  /**
   * Flushes, closes and unlocks. If there is no space to flush, everything stays open and locked: make space and close again.
   * After any other failure the image is unlocked all the same, and the failure thrown.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error) => {
      if (error instanceof DiskError && error.kind === 'no-space') this.#closing = undefined;
      throw error;
    });
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { size } = this.disk;
    try {
      await this.disk.close();
    } catch (error) {
      if (error instanceof DiskError && error.kind === 'no-space') throw error;
      // The failure above is the one to tell; this only lets go of the file.
      await runAsync(this.#storage.close()).catch(() => undefined);
      await this.#closed(size, this.#changed);
      throw error;
    }
    await this.#closed(size, this.#changed);
  }
}
