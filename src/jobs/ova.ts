/**
 * An appliance in one file (OVA): a tar archive with its description, a manifest of checksums and its disk, which VMware's tools and VirtualBox import. The disk is
 * compressed into the archive as it is read: nothing is stored besides. The description and the manifest, which come first, have a fixed length, so
 * they are written last, with what is known then.
 *
 * Crash argument: until the last write the archive begins with zeros, as which it ends at once for every reader.
 */
import { COUNT, check, FLAG, FUNCTION, needed, optionsOf, TEXT } from '../base/arguments.ts';
import { roundUp, utf8 } from '../base/bytes.ts';
import { assert, DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { COPY_JOB_OPTIONS, type CopyJobOptions } from '../base/job.ts';
import { SECTOR } from '../base/units.ts';
import { type RunningHash, runningSha256 } from '../crypto/running-hash.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import { createDisk } from '../disk/open.ts';
import { APPLIANCE_DISK } from '../formats/roles.ts';
import { STORAGE, type Storage, type StorageExtent, writeZeroes } from '../storage/storage.ts';
import { convert } from './convert.ts';
import { ovfText } from './ovf-text.ts';
import type { SalvageOptions } from './source.ts';
import { MAX_TAR_NAME, TAR_BLOCK, tarHeader } from './tar-header.ts';

/** The name of this form of a disk where formats are named: it is none of a disk image. */
export const APPLIANCE = 'ova';

/** The options of `writeOva`. */
export interface OvaOptions extends CopyJobOptions, SalvageOptions {
  /** The appliance's name, for people; its files are named after it. */
  readonly name: string;
  /** MiB of memory that the machine is to have; default 512. */
  readonly memory?: number;
  /** How many processors it is to have; default 1. */
  readonly processors?: number;
}

const OVA = optionsOf<OvaOptions>({
  ...COPY_JOB_OPTIONS,
  salvage: FLAG,
  onUnreadable: FUNCTION,
  name: needed(TEXT),
  memory: COUNT,
  processors: COUNT,
});

/** As wide as the largest size. */
const WIDEST = Number.MAX_SAFE_INTEGER;
/** Bytes of a name that its endings leave. */
const STEM = MAX_TAR_NAME - '-disk1.vmdk'.length;

/**
 * Writes an OVA with the disk's contents into an empty storage, and flushes it. Throws `refused` for a storage that is not empty, `aborted` if cancelled, and
 * the errors of reading and writing.
 */
export async function writeOva(source: Disk, target: Storage, options: OvaOptions): Promise<void> {
  check('writeOva', 'source', source, DISK);
  check('writeOva', 'target', target, STORAGE);
  check('writeOva', 'options', options, OVA);
  const { name, memory = 512, processors = 1, ...job } = options;
  if (target.size !== 0) throw new DiskError('refused', `${target.name} is not empty: an archive there would destroy ${target.size} bytes`);
  const stem = stemOf(name);
  const [ovf, manifest, file] = [`${stem}.ovf`, `${stem}.mf`, `${stem}-disk1.vmdk`];
  const capacity = roundUp(source.size, SECTOR);
  const described = (fileSize: number): string => ovfText({ name, file, fileSize, capacity, memory, processors });
  const sums = (first: string, second: string): string => `SHA256(${ovf})= ${first}\nSHA256(${file})= ${second}\n`;
  const room = utf8(described(WIDEST)).length;
  const [ovfAt, manifestLength] = [TAR_BLOCK, utf8(sums('0'.repeat(64), '0'.repeat(64))).length];
  const manifestAt = ovfAt + roundUp(room, TAR_BLOCK) + TAR_BLOCK;
  const diskAt = manifestAt + roundUp(manifestLength, TAR_BLOCK) + TAR_BLOCK;
  const section = new Section(target, { name: file, start: diskAt, hash: await runAsync(runningSha256()) });
  const { format, options: shape } = APPLIANCE_DISK;
  const disk = await createDisk<string>(section, { format, size: capacity, inOrder: true, ...shape });
  try {
    await convert(source, disk, { ...job, targetIsNew: true });
  } finally {
    await disk.close();
  }
  await runAsync(
    (function* (): Io<void> {
      const end = diskAt + section.size;
      yield* writeZeroes(target, end, roundUp(end, TAR_BLOCK) + 2 * TAR_BLOCK - end);
      yield* target.flush();
      const description = utf8(described(section.size));
      // The archive ends its lines with white space, which has no meaning behind the envelope.
      const padded = new Uint8Array(room).fill(0x0a);
      padded.set(description);
      const hash = yield* runningSha256();
      hash.update(padded);
      const time = Date.now() / 1000;
      const front = new Uint8Array(diskAt);
      front.set(tarHeader(ovf, room, time));
      front.set(padded, ovfAt);
      front.set(tarHeader(manifest, manifestLength, time), manifestAt - TAR_BLOCK);
      front.set(utf8(sums(hash.digits(), section.digits())), manifestAt);
      front.set(tarHeader(file, section.size, time), diskAt - TAR_BLOCK);
      yield* target.write(0, front);
      yield* target.flush();
    })(),
  );
}

/** The name without what cannot stand in names of files, as long as an archive allows. */
function stemOf(name: string): string {
  let stem = name.replace(/[\p{Cc}\p{Cs}\\/:*?"<>|]/gu, '_').trim() || 'disk';
  while (utf8(stem).length > STEM) stem = [...stem].slice(0, -1).join('');
  return stem;
}

/** A file in the archive while it is written, from its beginning to its end. */
class Section implements Storage {
  readonly name: string;
  readonly readOnly = false;
  readonly #target: Storage;
  readonly #start: number;
  readonly #hash: RunningHash;
  #size = 0;

  constructor(target: Storage, { name, start, hash }: { name: string; start: number; hash: RunningHash }) {
    this.name = name;
    this.#target = target;
    this.#start = start;
    this.#hash = hash;
  }

  get size(): number {
    return this.#size;
  }

  get synchronous(): boolean {
    return this.#target.synchronous;
  }

  /** See `RunningHash.digits`. */
  digits(): string {
    return this.#hash.digits();
  }

  *read(offset: number, into: Uint8Array): Io<void> {
    yield* this.#target.read(this.#start + offset, into);
    into.fill(0, Math.max(0, this.#size - offset));
  }

  *write(offset: number, bytes: Uint8Array): Io<void> {
    assert(offset === this.#size, `${this.name} is written out of order`);
    yield* this.#target.write(this.#start + offset, bytes);
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  zero(offset: number, length: number): Io<void> {
    return writeZeroes(this, offset, length);
  }

  *discard(): Io<void> {}

  *truncate(size: number): Io<void> {
    yield* writeZeroes(this, this.#size, size - this.#size);
  }

  *map(_: number, length: number): Io<StorageExtent> {
    return { length, zero: false };
  }

  barrier(): Io<void> {
    return this.#target.barrier();
  }

  flush(): Io<void> {
    return this.#target.flush();
  }

  *close(): Io<void> {}
}
