/**
 * Snapshots of a Parallels disk in a folder: taken, gone back to, merged into the disk.
 *
 * Crash argument. Files that are new, and clusters that are copied, are durable before the description (bundle-place.ts) names the files, or no longer names the
 * snapshot; and a cluster that is copied up reads as before. So a cut leaves the old description or the new one, each with all that it names; at worst
 * a file that nothing names. A file that is no longer named is emptied only when the new description is durable.
 */
import { isZero } from '../../base/bytes.ts';
import { DiskError, unsupported } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { KiB, MiB, SECTOR } from '../../base/units.ts';
import { randomUuid } from '../../base/uuid.ts';
import type { Storage } from '../../storage/storage.ts';
import type { ImageDriver, SnapshotInfo } from '../driver.ts';
import type { SnapshotTools, ToolImage } from '../tools.ts';
import { withName, withoutSnapshot, withSnapshot, withTopOver } from './bundle-changes.ts';
import type { BundleFiles, OpenPart } from './bundle-files.ts';
import { type Bundle, guid, type Shot } from './bundle-text.ts';
import { createImage } from './create.ts';
import { FORMAT } from './layout.ts';

/** Sizes of clusters for images over plain files: the first that all parts begin at a multiple of. */
const CLUSTERS = [MiB, 64 * KiB, 4 * KiB, SECTOR];

/** An open disk, for changes of all of it. */
export interface BundleSnapshots {
  readonly storage: Storage;
  readonly files: BundleFiles;
  bundle(): Bundle;
  parts(): readonly OpenPart[];
  clusterSize(): number;
  flush(): Io<void>;
  /** A disk that is only read. */
  view(parts: readonly OpenPart[]): ImageDriver;
  /** Another description, and the open files that it names. */
  switchTo(root: Bundle['root'], parts: readonly OpenPart[]): Io<void>;
}

/** The verbs of `SnapshotTools`. */
export function snapshotTools(disk: BundleSnapshots): SnapshotTools {
  return {
    create: ({ name, date, vmStateSize = 0 }) => create(disk, { name, date, vmStateSize }),
    apply: (id) => apply(disk, id),
    delete: (id) => remove(disk, id),
    rename: (id, name) => disk.switchTo(withName(disk.bundle().root, id, name), disk.parts()),
    *view(id) {
      return disk.view(yield* disk.files.open(disk.bundle().partsOf(id), { readOnly: true }));
    },
  };
}

function* create(
  disk: BundleSnapshots,
  { name, date, vmStateSize }: { readonly name: string; readonly date: Date; readonly vmStateSize: number },
): Io<SnapshotInfo> {
  if (vmStateSize > 0) throw unsupported(FORMAT, 'a disk in a folder has no place for the state of a machine', { field: 'vmStateSize' });
  const id = guid(randomUuid());
  const dateSeconds = Math.floor(date.getTime() / 1000);
  // What is below from now on is closed as an image, and its file stays open to be read.
  for (const { images } of disk.parts()) yield* images[0].close();
  const { file, tops } = yield* newTops(disk);
  const { root, top } = disk.bundle();
  const parts = disk.parts().map((part, at): OpenPart => ({ ...part, images: [tops[at] as ToolImage, ...part.images] }));
  yield* disk.switchTo(withSnapshot(root, { top, id, name, date: dateSeconds, file }), parts);
  return { id, name, dateSeconds, dateNanoseconds: 0, vmStateSize: 0, vmClockNanoseconds: 0, diskSize: disk.bundle().size };
}

/** New, empty images for all parts, and their names. */
function* newTops(disk: BundleSnapshots): Io<{ readonly file: (part: number) => string; readonly tops: readonly ToolImage[] }> {
  const parts = disk.parts();
  const id = guid(randomUuid());
  const file = (part: number): string => (parts.length > 1 ? `${part}.${id}.hds` : `${id}.hds`);
  const clusterSize = disk.clusterSize() || (CLUSTERS.find((size) => parts.every(({ start }) => start % size === 0)) as number);
  const tops: ToolImage[] = [];
  for (const [part, { size }] of parts.entries())
    tops.push(yield* disk.files.make(file(part), (storage) => createImage(storage, { size, options: { cluster_size: clusterSize } })));
  return { file, tops };
}

/** The disk is another snapshot's, in new files; the old ones are emptied. */
function* apply(disk: BundleSnapshots, id: string): Io<void> {
  const { root, top, partsOf } = disk.bundle();
  yield* disk.flush();
  const below = yield* disk.files.open(partsOf(id), { readOnly: true });
  const { file, tops } = yield* newTops(disk);
  const old = disk.parts();
  const parts = below.map((part, at): OpenPart => ({ ...part, images: [tops[at] as ToolImage, ...part.images] }));
  yield* disk.switchTo(withTopOver(root, { top, id, file }), parts);
  for (const { images } of old) yield* empty(images[0].storage);
}

function* empty(storage: Storage): Io<void> {
  yield* storage.truncate(0);
  yield* storage.flush();
}

/** A snapshot over which nothing lies goes with its files; the one right below the disk gives the disk what shows of it. */
function* remove(disk: BundleSnapshots, id: string): Io<void> {
  const { root, below, snapshots } = disk.bundle();
  const { parent } = snapshots.find(({ guid: one }) => one === id) as Shot;
  const over = snapshots.filter((shot) => shot.parent === id);
  if (below !== id) {
    if (over.length > 0)
      throw refusal(`other snapshots lie over it (${over.map(({ name, guid: one }) => name || one).join(', ')}): delete them first`);
    return yield* disk.switchTo(withoutSnapshot(root, id, parent), disk.parts());
  }
  if (over.length > 0) throw refusal('the disk and other snapshots lie over it: delete those first');
  for (const part of disk.parts()) yield* copyUp(part);
  yield* disk.flush();
  const parts = disk.parts().map((part): OpenPart => ({ ...part, images: [part.images[0], ...part.images.slice(2)] }));
  yield* disk.switchTo(withoutSnapshot(root, id, parent), parts);
}

const refusal = (message: string): DiskError =>
  new DiskError('refused', `${FORMAT}: the snapshot cannot be deleted: ${message}`, { format: FORMAT, field: 'snapshot' });

/** Copies the clusters of the image right below a part's uppermost one that the latter does not have. */
function* copyUp({ size, images: [top, from, ...rest] }: OpenPart): Io<void> {
  if (!from || top.clusterSize === 0) return;
  for (let at = 0; at < size; at += top.clusterSize) {
    const length = Math.min(top.clusterSize, size - at);
    if ((yield* looked(top, at, length)).kind !== 'backing') continue;
    const bytes = new Uint8Array(length);
    const own = yield* readThrough([from, ...rest], at, bytes);
    // Zeros must hide what is below.
    if (!own || (rest.length === 0 && isZero(bytes))) continue;
    if (top.prepare) yield* top.prepare(at, length);
    const place = top.place?.(at, length);
    if (!place) throw new DiskError('no-space', `${FORMAT}: there is no place for a cluster`, { format: FORMAT, field: 'BAT' });
    yield* place.storage.write(place.hostOffset, bytes);
    place.fresh?.commit();
  }
}

function* looked(image: ImageDriver, offset: number, length: number) {
  for (;;) {
    const extent = image.look(offset, length);
    if (extent) return extent;
    if (image.load) yield* image.load(offset, length);
  }
}

/** Reads a range through images; true if the first of them has some of it. */
function* readThrough([image, ...below]: readonly ImageDriver[], offset: number, into: Uint8Array): Io<boolean> {
  if (!image) {
    into.fill(0);
    return false;
  }
  let own = false;
  for (let done = 0; done < into.length; ) {
    const extent = yield* looked(image, offset + done, into.length - done);
    const piece = into.subarray(done, done + extent.length);
    if (extent.kind === 'data') yield* extent.storage.read(extent.hostOffset, piece);
    else yield* readThrough(below, offset + done, piece);
    own ||= extent.kind === 'data';
    done += extent.length;
  }
  return own;
}
