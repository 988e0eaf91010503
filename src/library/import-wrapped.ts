/**
 * Bringing in the disks of a packed file, an archive, an appliance or a CD image. They are unpacked straight into their new images; only a disk that has to be
 * converted, because images like it can be read but not written, and an archive inside a packed file, take space twice for a while. Either all disks come
 * in or none is left.
 */

import { ByteReader } from '../base/byte-stream.ts';
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync, wait } from '../base/io.ts';
import { type JobOptions, Pace } from '../base/job.ts';
import { SECTOR } from '../base/units.ts';
import { createDisk, openDisk } from '../disk/open.ts';
import { allFormats } from '../formats/all.ts';
import { findFormat, PROBE_LENGTH, probeFormat } from '../formats/registry.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import { convert } from '../jobs/convert.ts';
import { FilterStorage } from '../layers/filter.ts';
import { blobStorage } from '../storage/blob.ts';
import type { Storage } from '../storage/storage.ts';

import { type Part, partName } from '../wrappers/part.ts';
import type { ImageEntry, ImportedImage, ImportOptions } from './entries.ts';
import { freeName } from './free-name.ts';
import type { ImageFormat, Place } from './image-record.ts';
import { verify } from './import.ts';
import type { UnwrapKeeper } from './import-keeper.ts';
import { pour, requireChecksums } from './pour.ts';
import { recogniseStorage } from './recognise.ts';
import { disksIn, type FoundDisk, type Unwrapped } from './unwrap.ts';

/** Imports the disks of a file; undefined if it is no wrapper. Throws as `unwrap`, `recognise` and `Library.import` do. */
export async function importWrapped(file: Blob, options: ImportOptions & JobOptions, keeper: UnwrapKeeper): Promise<ImportedImage | undefined> {
  const run = new WrappedImport(file, options, keeper);
  try {
    return await run.all();
  } finally {
    await run.end();
  }
}

/** A storage that knows how far it was read last. */
class Watched extends FilterStorage {
  position = 0;

  override *read(offset: number, into: Uint8Array): Io<void> {
    this.position = offset + into.length;
    yield* this.next.read(offset, into);
  }
}

class WrappedImport {
  readonly #options: ImportOptions & JobOptions;
  readonly #keeper: UnwrapKeeper;
  readonly #source: Watched;
  readonly #beside: readonly Storage[];
  readonly #place: Place;
  /** What is undone at the end, the last first. */
  readonly #ends: (() => Promise<void>)[] = [];

  constructor(file: Blob, options: ImportOptions & JobOptions, keeper: UnwrapKeeper) {
    this.#options = options;
    this.#keeper = keeper;
    this.#source = new Watched(blobStorage(file));
    this.#beside = (options.parts ?? []).map((part) => blobStorage(part));
    this.#place = keeper.choose(options.place);
    for (const storage of [this.#source, ...this.#beside]) this.#ends.push(() => runAsync(storage.close()));
  }

  async end(): Promise<void> {
    for (let undo = this.#ends.pop(); undo; undo = this.#ends.pop()) await undo().catch(() => undefined);
  }

  async all(): Promise<ImportedImage | undefined> {
    const spool = (part: Part, spend: (bytes: number) => void): Io<Storage> => this.#spool(part, spend);
    const found = await runAsync(disksIn(this.#source, { beside: this.#beside, most: this.#options.most, spool }));
    if (!found) return undefined;
    const disks = this.#chosen(found);
    await this.#verifyChecksums(disks);
    const made: ImageEntry[] = [];
    try {
      for (const disk of disks) made.push(await this.#one(disk, await this.#nameFor(disk, found, made.length), found));
    } catch (error) {
      for (const { id } of made) await this.#keeper.delete(id).catch(() => undefined);
      throw error;
    }
    const [first, ...others] = made as [ImageEntry, ...ImageEntry[]];
    const { appliance, warnings } = found;
    const machine = appliance && {
      ...(appliance.name === undefined ? {} : { name: appliance.name }),
      ...(appliance.memory === undefined ? {} : { memory: appliance.memory }),
      disks: made.map(({ id }) => id),
    };
    return {
      ...first,
      ...(others.length > 0 ? { others } : {}),
      ...(machine ? { machine } : {}),
      ...(warnings.length > 0 ? { warnings } : {}),
    };
  }

  #chosen({ disks }: Unwrapped): readonly FoundDisk[] {
    const { member } = this.#options;
    if (member === undefined) return disks;
    const exact = disks.filter(({ part }) => part.path === member);
    const chosen = exact.length > 0 ? exact : disks.filter(({ name }) => name === member);
    if (chosen.length > 0) return chosen;
    const names = disks.map(({ part }) => JSON.stringify(part.path)).join(', ');
    throw new DiskError('not-found', `${this.#source.name} has no disk ${JSON.stringify(member)}, it has ${names}`, { field: 'member' });
  }

  async #nameFor({ name }: FoundDisk, { appliance }: Unwrapped, index: number): Promise<string> {
    const stated = this.#options.name;
    if (index === 0 && stated !== undefined) return stated;
    const whole = appliance && (stated ?? appliance.name);
    return freeName(partName(whole === undefined ? name : index === 0 ? whole : `${whole} ${index + 1}`), this.#keeper);
  }

  /** Compares the files with their checksums in a manifest, before anything is kept. */
  async #verifyChecksums(disks: readonly FoundDisk[]): Promise<void> {
    const pace = this.#pace();
    await runAsync(requireChecksums(disks, () => pace.step(this.#source.position)));
  }

  #pace(): Pace {
    return new Pace(this.#options, Math.max(1, this.#source.size));
  }

  async #one(disk: FoundDisk, name: string, found: Unwrapped): Promise<ImageEntry> {
    const { part } = disk;
    const stated = this.#options.format;
    const guess = stated ?? (await this.#guess(part));
    // Images of these formats can always be written as they come: no look at all of the file is needed before.
    const direct = !part.storage && (guess === OVERLAY_FORMAT || findFormat(allFormats, guess).plain === true);
    const storage = direct ? undefined : (part.storage ?? (await runAsync(this.#spool(part, found.budget.keeping(part)))));
    if (!storage) return this.#keep(part, { name, guess, found });
    const format = await recogniseStorage(storage, { name: disk.name, ...(stated ? { stated } : {}) });
    if (stated === undefined && (await isReadOnly(storage, format))) return this.#converted(storage, { name, format });
    return this.#keep(part, { name, guess: format, found });
  }

  async #guess({ stream, head, size = Number.MAX_SAFE_INTEGER }: Part): Promise<ImageFormat> {
    const first = head ?? (await runAsync(new ByteReader(stream(), 'file').peek(PROBE_LENGTH)));
    return probeFormat(allFormats, first.subarray(0, PROBE_LENGTH), { size, name: '' }).name as ImageFormat;
  }

  /** The image as it is. Its format is known for sure only when all of it is there. */
  #keep(part: Part, { name, guess, found }: { name: string; guess: ImageFormat; found: Unwrapped }): Promise<ImageEntry> {
    const { format: stated } = this.#options;
    return this.#keeper.make({ name, format: guess, place: this.#place }, async (storage) => {
      try {
        await runAsync(this.#pour(part, storage, found.budget.keeping(part)));
        const format = await recogniseStorage(storage, { name: partName(part.path), ...(stated ? { stated } : {}) });
        return { ...(await verify(storage, { format, readOnly: true })), format };
      } catch (error) {
        await runAsync(storage.close()).catch(() => undefined);
        throw error;
      }
    });
  }

  #converted(storage: Storage, { name, format }: { name: string; format: ImageFormat }): Promise<ImageEntry> {
    const { signal, control, onProgress } = this.#options;
    return this.#keeper.make({ name, format: OVERLAY_FORMAT, place: this.#place }, async (into) => {
      const source = await openDisk(new Kept(storage), { format, readOnly: true });
      const target = await createDisk(into, { format: OVERLAY_FORMAT, size: roundUp(source.size, SECTOR) });
      try {
        const job = { ...(signal ? { signal } : {}), ...(control ? { control } : {}), ...(onProgress ? { onProgress } : {}) };
        await convert(source, target, { ...job, targetIsNew: true });
        return { size: target.size, encrypted: false };
      } finally {
        await source.close();
        await target.close();
      }
    });
  }

  *#pour(part: Part, target: Storage, spend: (bytes: number) => void): Io<void> {
    const pace = this.#pace();
    yield* pour(part, target, { spend, step: () => pace.step(this.#source.position) });
    pace.finish();
  }

  /** The bytes of a part in a temporary image. */
  *#spool(part: Part, spend: (bytes: number) => void): Io<Storage> {
    const scratch = yield* wait(this.#keeper.scratch(this.#place));
    this.#ends.push(() => scratch.remove());
    const storage = yield* wait(scratch.create());
    try {
      yield* this.#pour(part, storage, spend);
    } finally {
      yield* storage.close();
    }
    const again = yield* wait(scratch.reopen());
    this.#ends.push(() => runAsync(again.close()));
    return again;
  }
}

/** True for an image that a machine could not write to: its format is only read, or each of its units is written once. */
async function isReadOnly(storage: Storage, format: ImageFormat): Promise<boolean> {
  const { capabilities, encryption } = findFormat(allFormats, format);
  if (!capabilities.write) return true;
  if (encryption) return false;
  const disk = await openDisk(new Kept(storage), { format, readOnly: true });
  try {
    return disk.node.driver.compressedOnly === true;
  } finally {
    await disk.close();
  }
}

/** A storage that stays open when a disk over it is closed. */
class Kept extends FilterStorage {
  override *close(): Io<void> {}
}
