/** Files that a command reads whole: passphrases, lists of events, patterns. They may be pipes, and devices that never end. */
import { closeSync, openSync, readSync } from 'node:fs';
import { DiskError } from '../index.ts';
import { SystemError } from '../qemu.ts';
import { systemPath } from '../storage/system-path.ts';

/** Reads a file from its beginning, at most `most` bytes. Throws errors that `fileText` has words for. */
export function readUpTo(path: string, most: number): Uint8Array {
  if (path.includes('\0')) throw new SystemError('ENOENT', 'No such file or directory');
  const descriptor = openSync(systemPath(path), 'r');
  try {
    const parts: Uint8Array[] = [];
    for (let left = most; left > 0; ) {
      const part = new Uint8Array(Math.min(left, 64 * 1024));
      const count = readSync(descriptor, part, 0, part.length, null);
      if (count === 0) break;
      parts.push(part.subarray(0, count));
      left -= count;
    }
    return new Uint8Array(Buffer.concat(parts));
  } finally {
    closeSync(descriptor);
  }
}

/** As `readUpTo`, for files that may not be larger. */
export function readWhole(path: string, most: number): Uint8Array {
  const bytes = readUpTo(path, most + 1);
  if (bytes.length > most) throw new DiskError('refused', `The file has more than ${most} bytes`);
  return bytes;
}
