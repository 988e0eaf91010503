/**
 * Memory that is transferred to the engine and back, and used again. This is worth it: memory that was never touched before costs the
 * system a page fault for every 4 KiB, some 0.6 ms a mebibyte in Chromium, where copying costs 0.1 ms and reading from OPFS as much. A round trip with
 * 1 MiB read by the bare handle took 0.68 ms into new memory and 0.29 ms into memory that went back and forth; of 64 KiB, 100 and 63 µs. Below
 * `SMALLEST` nothing was gained.
 */
import { KiB, MiB } from '../base/units.ts';

/** Fewer bytes than this are not worth lending. */
export const SMALLEST = 32 * KiB;
/** Larger buffers are not kept. */
const LARGEST = MiB;
/** Bytes kept at most. */
const KEPT = 4 * MiB;

/** A bounded stock of buffers, each a power of two of bytes. */
export class BufferPool {
  readonly #free: ArrayBuffer[] = [];
  #bytes = 0;

  /** A buffer for so many bytes, with any contents; it is not used elsewhere, and may be larger. Undefined if lending is not worth it. */
  take(length: number): Uint8Array<ArrayBuffer> | undefined {
    if (length < SMALLEST || length > LARGEST) return undefined;
    const size = SMALLEST * 2 ** Math.ceil(Math.log2(length / SMALLEST));
    const at = this.#free.findLastIndex(({ byteLength }) => byteLength === size);
    const [found] = at < 0 ? [] : this.#free.splice(at, 1);
    if (found) this.#bytes -= size;
    return new Uint8Array(found ?? new ArrayBuffer(size), 0, length);
  }

  /** Takes back memory that `take` gave; its user does not need it any more. */
  give({ buffer }: Uint8Array<ArrayBuffer>): void {
    if (this.#bytes + buffer.byteLength > KEPT) return;
    this.#free.push(buffer);
    this.#bytes += buffer.byteLength;
  }
}
