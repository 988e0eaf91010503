/**
 * `measure`: the space that a file would take if a disk were converted to a format, as `qemu-img measure` computes it. Nothing is written, and of the
 * disk only its map is read: zeros that its format does not know of count as data.
 */
import { check, either, needed, optionsOf, SIZE, TEXT } from '../base/arguments.ts';
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, runAsync } from '../base/io.ts';
import { JOB_OPTIONS, type JobOptions, Pace } from '../base/job.ts';
import type { Disk } from '../disk/disk.ts';
import { BACKING, DISK, FORMAT_OPTIONS } from '../disk/kinds.ts';
import { allFormats } from '../formats/all.ts';
import type { Measurement } from '../formats/descriptor.ts';
import type { BackingReference } from '../formats/driver.ts';
import { findFormat } from '../formats/registry.ts';
import type { BlockNode } from '../node/node.ts';
import { openSource } from './source.ts';

/** The options of `measure`, besides the format's own options under QEMU's names (`cluster_size`, …). */
export interface MeasureOptions extends JobOptions {
  /** QEMU's name of the format that the file would have. */
  readonly format: string;
  /** The image would have a backing file: everything is counted then, as in QEMU. */
  readonly backing?: BackingReference;
  /** Options of that format, under QEMU's names. */
  readonly options?: Readonly<Record<string, string | number | boolean>>;
}

/** Bytes that a file would take. */
export interface Measured {
  /** With the data the disk has now. */
  readonly required: number;
  /** With all of the disk allocated. */
  readonly fullyAllocated: number;
  /** For copies of the disk's bitmaps besides; absent unless both the source and the image can have some. */
  readonly bitmaps?: number;
}

const MEASURE = optionsOf<MeasureOptions>({ ...JOB_OPTIONS, format: needed(TEXT), backing: BACKING, options: FORMAT_OPTIONS });

/**
 * Measures a disk, or an empty disk of this many bytes. Throws `unsupported` if the format has no formula, `refused` for impossible options and
 * sizes, `aborted` if cancelled.
 */
export async function measure(source: Disk | number, options: MeasureOptions): Promise<Measured> {
  check('measure', 'source', source, either(SIZE, DISK));
  check('measure', 'options', options, MEASURE);
  return runAsync(measureNode(typeof source === 'number' ? source : source.node, options));
}

/** `measure` inside coroutines. */
export function* measureNode(source: BlockNode | number, all: MeasureOptions): Io<Measured> {
  const { format, backing, options = {} } = all;
  const descriptor = findFormat(allFormats, format);
  if (!descriptor.measure) throw new DiskError('unsupported', `Block driver '${descriptor.name}' does not support size measurement`, { format });
  if (typeof source !== 'number') yield* source.keepers.drain();
  const size = typeof source === 'number' ? source : source.size;
  const kept = typeof source === 'number' ? undefined : source.driver.bitmaps;
  const bitmaps = kept?.storable ? { bitmaps: kept.list() } : {};
  const plan = yield* descriptor.measure({ size, options, ...bitmaps, ...(backing ? { backing } : {}) });
  const fullyAllocated = plan.size + plan.metadata;
  const copied = plan.bitmaps === undefined ? {} : { bitmaps: plan.bitmaps };
  if (plan.everything) return { required: fullyAllocated, fullyAllocated, ...copied };
  const data = typeof source === 'number' ? 0 : yield* allocated(source, plan, all);
  return { required: plan.metadata + data, fullyAllocated, ...copied };
}

/** Bytes of the units that hold some of the disk's data. */
function* allocated(node: BlockNode, { unit }: Measurement, options: JobOptions): Io<number> {
  const pace = new Pace(options, node.size);
  const source = openSource(node, 'source');
  let bytes = 0;
  for (let at = 0; at < node.size; ) {
    yield* pace.step(at);
    const run = yield* source.status(at, node.size - at);
    const end = at + run.length;
    if (run.zero || !run.data) {
      at = end;
      continue;
    }
    bytes += roundUp(end, unit) - (at - (at % unit));
    at = roundUp(end, unit);
  }
  pace.finish();
  return bytes;
}
