/** Unpacking a file that was found inside another, and comparing it with its checksum. */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Storage } from '../storage/storage.ts';
import { digestOf } from '../wrappers/digest.ts';
import { type Part, partName } from '../wrappers/part.ts';
import { copyStep } from './copy.ts';
import type { FoundDisk } from './unwrap.ts';

/** Unpacks a part into an empty storage, without its zeros, and flushes it. `spend` is told of its bytes before they are written, `step` comes after. */
export function* pour(part: Part, target: Storage, { spend, step }: { spend?: (bytes: number) => void; step?: () => Io<void> } = {}): Io<void> {
  const stream = part.stream();
  let length = 0;
  for (let piece = yield* stream.next(); piece !== undefined; piece = yield* stream.next()) {
    spend?.(piece.length);
    yield* copyStep(target, length, piece);
    length += piece.length;
    if (step) yield* step();
  }
  if (target.size !== length) yield* target.truncate(length);
  yield* target.flush();
}

/** Compares the files of disks with their checksums in a manifest. Throws `corrupt` with the field `manifest`. */
export function* requireChecksums(disks: readonly Pick<FoundDisk, 'checks'>[], step?: () => Io<void>): Io<void> {
  for (const { part, checksum } of disks.flatMap(({ checks }) => checks)) {
    const digest = yield* digestOf(checksum.hash, part.stream(), step);
    if (digest === checksum.digest) continue;
    const hash = checksum.hash.toUpperCase();
    throw new DiskError(
      'corrupt',
      `${partName(part.path)} is not the file that the manifest has the checksum of (${hash}): it is damaged or was changed. Copy or download it anew`,
      { format: 'ovf', field: 'manifest' },
    );
  }
}
