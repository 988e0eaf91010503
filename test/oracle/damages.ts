/** Damages of qcow2 images, as data: what is done to which image. damage.test.ts runs them beside the real QEMU. */
import { COPIED, type Image } from '../formats/qcow2/image.ts';

/** The images that are damaged: `plain` has three snapshots, `bitmaps` two bitmaps, `old` is `plain` of version 2. */
export type Base = 'plain' | 'bitmaps' | 'old';

export interface Damage {
  readonly what: string;
  readonly base: Base;
  readonly damage: (image: Image) => void;
  /** The file is cut off here afterwards. */
  readonly cut?: (image: Image) => number;
}

/** Why the outcome differs from QEMU's, and in what: each is "what: ours, QEMU's". */
export interface Difference {
  /** The damages it is of. */
  readonly of: readonly string[];
  readonly better: string;
  readonly differs: readonly string[];
}

const END = 1n << 31n;
const FAR = 1n << 55n;

/** Where the header extension of the bitmaps has its contents. */
function bitmaps(image: Image): number {
  let at = 112;
  while (image.data.getUint32(at) !== 0x23852875) at += 8 + Math.ceil(image.data.getUint32(at + 4) / 8) * 8;
  return at + 8;
}

const plain = (what: string, damage: Damage['damage'], cut?: Damage['cut']): Damage => ({ what, base: 'plain', damage, ...(cut ? { cut } : {}) });
const cutAt = (what: string, cut: (image: Image) => number, base: Base = 'plain'): Damage => ({ what, base, damage: () => undefined, cut });

export const damages: readonly Damage[] = [
  plain('nothing', () => undefined),
  // Header fields.
  plain('refcount table of no clusters', (i) => i.data.setUint32(56, 0)),
  plain('refcount table at 0', (i) => i.set(48, 0n)),
  plain('refcount table past the end', (i) => i.set(48, END)),
  plain('refcount table far past the end', (i) => i.set(48, FAR)),
  plain('refcount table off its cluster', (i) => i.set(48, BigInt(i.reftable + 512))),
  plain('refcount table too long', (i) => i.data.setUint32(56, 0xffff)),
  plain('refcount table longer than the file', (i) => i.data.setUint32(56, 1500)),
  plain('refcount table is the L1 table', (i) => i.set(48, BigInt(i.l1))),
  plain('refcount table is an L2 table', (i) => i.set(48, BigInt(i.l2))),
  plain('refcount table wiped', (i) => i.bytes.fill(0, i.reftable, i.reftable + i.clusterSize)),
  plain('refcount table overwritten', (i) => i.bytes.fill(0xa5, i.reftable, i.reftable + i.clusterSize)),
  plain('refcount block past the end', (i) => i.set(i.reftable, END)),
  plain('refcount block wiped', (i) => i.bytes.fill(0, i.refblock, i.refblock + i.clusterSize)),
  plain('refcount block overwritten', (i) => i.bytes.fill(0xa5, i.refblock, i.refblock + i.clusterSize)),
  plain('refcount block off its cluster', (i) => i.set(i.reftable, BigInt(i.refblock + 512))),
  plain('refcount block is the refcount table', (i) => i.set(i.reftable, BigInt(i.reftable))),
  plain('refcount block counts past the end of the file', (i) => i.data.setUint16(i.refblock + 2000 * 2, 1)),
  plain('second refcount block counts far past the end', (i) => {
    const at = i.bytes.length - i.clusterSize;
    i.set(i.reftable + 8 * 400, BigInt(at));
    i.count(at, 1);
    i.data.setUint16(at + 10, 3);
  }),
  plain('snapshot table at 0', (i) => i.set(64, 0n)),
  plain('snapshot table past the end', (i) => i.set(64, END)),
  plain('snapshot table just past the end', (i) => i.set(64, BigInt(i.bytes.length))),
  plain('snapshot table off its cluster', (i) => i.set(64, BigInt(i.snapshots + 8))),
  plain('snapshot table far past the end', (i) => i.set(64, FAR)),
  plain('snapshot table wiped', (i) => i.bytes.fill(0, i.snapshots, i.snapshots + i.clusterSize)),
  plain('snapshot table overwritten', (i) => i.bytes.fill(0xa5, i.snapshots, i.snapshots + i.clusterSize)),
  plain('snapshot table is the L1 table', (i) => i.set(64, BigInt(i.l1))),
  plain('one snapshot too many', (i) => i.data.setUint32(60, 4)),
  plain('one snapshot lost', (i) => i.data.setUint32(60, 2)),
  plain('no snapshots any more', (i) => i.data.setUint32(60, 0)),
  plain('70000 snapshots', (i) => i.data.setUint32(60, 70_000)),
  plain('l1_size 0', (i) => i.data.setUint32(36, 0)),
  plain('l1_size too large', (i) => i.data.setUint32(36, 0x7fff_ffff)),
  plain('l1_size longer than the file', (i) => i.data.setUint32(36, 30_000)),
  plain('L1 table past the end', (i) => i.set(40, END)),
  plain('L1 table off its cluster', (i) => i.set(40, BigInt(i.l1 + 8))),
  plain('L1 table at 0', (i) => i.set(40, 0n)),
  plain('L1 table wiped', (i) => i.bytes.fill(0, i.l1, i.l1 + 24)),
  // Entries of the L1 and L2 tables.
  plain('L2 table past the end', (i) => i.set(i.l1 + 8, COPIED | END)),
  plain('L2 table just past the end', (i) => i.set(i.l1 + 8, COPIED | BigInt(i.bytes.length))),
  plain('L2 table off its cluster', (i) => i.set(i.l1 + 8, i.get(i.l1 + 8) + 512n)),
  plain('L2 table with reserved bits', (i) => i.set(i.l1 + 8, i.get(i.l1 + 8) | 2n)),
  plain('L2 table is the header', (i) => i.set(i.l1 + 8, COPIED | 0x200n)),
  plain('one L2 table twice', (i) => i.set(i.l1 + 8, i.get(i.l1))),
  plain('L2 table overwritten', (i) => i.bytes.fill(0xa5, i.named(i.l1 + 8), i.named(i.l1 + 8) + i.clusterSize)),
  plain('cluster past the end', (i) => i.set(i.entry(10), COPIED | END)),
  plain('cluster just past the end', (i) => i.set(i.entry(10), COPIED | BigInt(i.bytes.length))),
  plain('cluster off its place', (i) => i.set(i.entry(10), i.get(i.entry(10)) + 512n)),
  plain('cluster that is the L1 table', (i) => i.set(i.entry(10), COPIED | BigInt(i.l1))),
  plain('two entries on one cluster', (i) => i.set(i.entry(50), i.get(i.entry(10)))),
  plain('compressed entry past the end', (i) => i.set(i.entry(10), (1n << 62n) | END)),
  // Each field of a snapshot's entry.
  plain('snapshot: L1 table past the end', (i) => i.set(i.snapshot(1), END)),
  plain('snapshot: L1 table just past the end', (i) => i.set(i.snapshot(1), BigInt(i.bytes.length))),
  plain('snapshot: L1 table far past the end', (i) => i.set(i.snapshot(1), FAR)),
  plain('snapshot: L1 table off its cluster', (i) => i.set(i.snapshot(1), i.get(i.snapshot(1)) + 8n)),
  plain('snapshot: L1 table at 0', (i) => i.set(i.snapshot(1), 0n)),
  plain("snapshot: L1 table is the disk's", (i) => i.set(i.snapshot(1), BigInt(i.l1))),
  plain('snapshot: L1 table wiped', (i) => i.bytes.fill(0, Number(i.get(i.snapshot(1))), Number(i.get(i.snapshot(1))) + 24)),
  plain('snapshot: L1 table overwritten', (i) => i.bytes.fill(0xa5, Number(i.get(i.snapshot(1))), Number(i.get(i.snapshot(1))) + 24)),
  plain('snapshot: l1_size 0', (i) => i.data.setUint32(i.snapshot(1) + 8, 0)),
  plain('snapshot: l1_size too small', (i) => i.data.setUint32(i.snapshot(1) + 8, 1)),
  plain('snapshot: l1_size longer than the file', (i) => i.data.setUint32(i.snapshot(1) + 8, 30_000)),
  plain('snapshot: l1_size too large', (i) => i.data.setUint32(i.snapshot(1) + 8, 0xffff_ffff)),
  plain('snapshot: id longer than the file', (i) => i.data.setUint16(i.snapshot(2) + 12, 0xffff)),
  plain('snapshot: id too long, in the middle', (i) => i.data.setUint16(i.snapshot(1) + 12, 200)),
  plain('snapshot: no id', (i) => i.data.setUint16(i.snapshot(2) + 12, 0)),
  plain('snapshot: name longer than the file', (i) => i.data.setUint16(i.snapshot(2) + 14, 0xffff)),
  plain('snapshot: no name', (i) => i.data.setUint16(i.snapshot(2) + 14, 0)),
  plain('snapshot: name of 0xff', (i) => i.bytes.fill(0xff, i.snapshot(2) + 65, i.snapshot(2) + 68)),
  plain('snapshot: date_sec, date_nsec of ones', (i) => i.set(i.snapshot(1) + 16, 0xffff_ffff_ffff_ffffn)),
  plain('snapshot: vm_clock of ones', (i) => i.set(i.snapshot(1) + 24, 0xffff_ffff_ffff_ffffn)),
  plain('snapshot: vm_state_size of ones', (i) => i.data.setUint32(i.snapshot(1) + 32, 0xffff_ffff)),
  plain('snapshot: extra data longer than 1024', (i) => i.data.setUint32(i.snapshot(2) + 36, 1100)),
  plain('snapshot: extra data longer than the file', (i) => i.data.setUint32(i.snapshot(2) + 36, 0xffff_0000)),
  plain('snapshot: extra data shorter than it was', (i) => i.data.setUint32(i.snapshot(2) + 36, 16)),
  plain('snapshot: no extra data', (i) => i.data.setUint32(i.snapshot(2) + 36, 0)),
  plain('snapshot: 64-bit vm_state_size of ones', (i) => i.set(i.snapshot(1) + 40, 0xffff_ffff_ffff_ffffn)),
  plain('snapshot: disk size of ones', (i) => i.set(i.snapshot(1) + 48, 0xffff_ffff_ffff_ffffn)),
  plain('snapshot: disk size 0', (i) => i.set(i.snapshot(1) + 48, 0n)),
  plain('snapshot: icount of ones but one', (i) => i.set(i.snapshot(1) + 56, 0xffff_ffff_ffff_fffen)),
  plain('snapshot: two of one id', (i) => i.bytes.copyWithin(i.snapshot(1) + 64, i.snapshot(0) + 64, i.snapshot(0) + 65)),
  // Version 2, in which an entry may have no extra data.
  { what: 'version 2: no extra data', base: 'old', damage: (i) => i.data.setUint32(i.snapshot(2) + 36, 0) },
  { what: 'version 2: snapshot table past the end', base: 'old', damage: (i) => i.set(64, END) },
  { what: 'version 2: refcount table at 0', base: 'old', damage: (i) => i.set(48, 0n) },
  { what: 'version 2: one snapshot too many', base: 'old', damage: (i) => i.data.setUint32(60, 4) },
  // Bitmaps.
  { what: 'bitmap directory off its cluster', base: 'bitmaps', damage: (i) => i.set(bitmaps(i) + 16, i.get(bitmaps(i) + 16) + 8n) },
  { what: 'bitmap directory past the end', base: 'bitmaps', damage: (i) => i.set(bitmaps(i) + 16, END) },
  {
    what: 'bitmap directory overwritten',
    base: 'bitmaps',
    damage: (i) => i.bytes.fill(0xa5, Number(i.get(bitmaps(i) + 16)), Number(i.get(bitmaps(i) + 16)) + 64),
  },
  { what: 'bitmap table past the end', base: 'bitmaps', damage: (i) => i.set(Number(i.get(bitmaps(i) + 16)), END) },
  {
    what: 'bitmap table overwritten',
    base: 'bitmaps',
    damage: (i) => i.bytes.fill(0xa5, Number(i.get(Number(i.get(bitmaps(i) + 16)))), Number(i.get(Number(i.get(bitmaps(i) + 16)))) + 64),
  },
  { what: 'bitmap extension: more than there are', base: 'bitmaps', damage: (i) => i.data.setUint32(bitmaps(i), 7) },
  // The file cut off.
  cutAt('cut at the L1 table', (i) => i.l1),
  cutAt('cut in the L1 table', (i) => i.l1 + 8),
  cutAt('cut at the refcount table', (i) => i.reftable),
  cutAt('cut at the refcount block', (i) => i.refblock),
  cutAt('cut in the refcount block', (i) => i.refblock + 512),
  cutAt('cut at an L2 table', (i) => i.l2),
  cutAt('cut at the snapshot table', (i) => i.snapshots),
  cutAt('cut in the snapshot table', (i) => i.snapshot(1) + 20),
  cutAt("cut in a snapshot's name", (i) => i.snapshot(2) + 66),
  cutAt("cut at a snapshot's L1 table", (i) => Number(i.get(i.snapshot(1)))),
];

/** Each difference there is. */
export const differences: readonly Difference[] = [
  {
    of: ['bitmap table past the end'],
    better: 'bitmaps that cannot be read are given up, and the image is sound again',
    differs: ['all: 0, 2'],
  },
  {
    of: [
      'bitmap directory off its cluster',
      'bitmap directory past the end',
      'bitmap directory overwritten',
      'bitmap table overwritten',
      'bitmap extension: more than there are',
    ],
    better: "the guest's bytes are read without the bitmaps, and a repair gives up bitmaps that cannot be read",
    differs: [
      'info: 0, 1',
      'reads: right right right, error error error',
      'check: 2, 1',
      'leaks: 2, 1',
      'all: 0, 1',
      'again: 0, 1',
      'salvaged: right right right, lost lost lost',
    ],
  },
  {
    of: ['l1_size longer than the file'],
    better: 'an L1 table that cannot be read is an error, not a disk of zeros, and a repair does not forget what it named',
    differs: ['all: 2, 1'],
  },
  {
    of: ['L1 table past the end', 'L1 table at 0'],
    better: 'an L1 table that cannot be read is an error, not a disk of zeros, and a repair does not forget what it named',
    differs: ['reads: error error error, wrong wrong wrong'],
  },
  {
    of: ['cut at the L1 table', 'cut in the L1 table', 'cut in the refcount block'],
    better: 'an L1 table that cannot be read is an error, not a disk of zeros, and a repair does not forget what it named',
    differs: ['reads: error error error, wrong wrong wrong', 'all: 2, 3', 'again: 2, 3'],
  },
  {
    of: ['cut at the refcount table', 'cut at the refcount block'],
    better: 'an L1 table that cannot be read is an error, not a disk of zeros, and a repair does not forget what it named',
    differs: ['reads: error error error, wrong wrong wrong', 'leaks: 2, 1', 'all: 2, 1'],
  },
  {
    of: ['L2 table past the end', 'L2 table just past the end'],
    better: 'an L2 table that is not there is an error, not zeros',
    differs: ['reads: right right error, right right wrong'],
  },
  {
    of: ['cut at an L2 table', "cut at a snapshot's L1 table"],
    better: 'an L2 table that is not there is an error, not zeros',
    differs: ['reads: error error right, wrong wrong right'],
  },
  {
    of: ['refcount table of no clusters'],
    better: "the guest's bytes are read without reference counts, and a repair counts anew",
    differs: [
      'info: 0, 1',
      'snapshots: one,two,three, ',
      'reads: right right right, error error error',
      'salvaged: right right right, lost lost lost',
    ],
  },
  {
    of: ['refcount table off its cluster', 'refcount table too long'],
    better: "the guest's bytes are read without reference counts, and a repair counts anew",
    differs: [
      'info: 0, 1',
      'snapshots: one,two,three, ',
      'reads: right right right, error error error',
      'check: 2, 1',
      'all: 0, 1',
      'again: 0, 1',
      'salvaged: right right right, lost lost lost',
      'kept: one,two,three, ',
    ],
  },
  {
    of: ['refcount table longer than the file'],
    better: 'nothing of a damaged refcount structure is believed: it is counted anew, and the file stays short',
    differs: ['all: 0, 1', 'again: 0, 2'],
  },
  {
    of: ['refcount table is the L1 table'],
    better: 'nothing of a damaged refcount structure is believed: it is counted anew, and the file stays short',
    differs: ['check: 2, 1'],
  },
  {
    of: ['refcount table overwritten'],
    better: 'nothing of a damaged refcount structure is believed: it is counted anew, and the file stays short',
    differs: ['check: 2, 1', 'all: 0, 1', 'again: 0, 3'],
  },
  {
    of: ['refcount block off its cluster'],
    better: 'nothing of a damaged refcount structure is believed: it is counted anew, and the file stays short',
    differs: ['all: 0, 1', 'again: 0, 1'],
  },
  {
    of: ['snapshot: l1_size 0', 'snapshot: l1_size too small'],
    better: 'QEMU gives the clusters of the snapshot away; here the size is had from the disk, and the snapshot is kept',
    differs: ['check: 2, 3', 'leaks: 2, 0'],
  },
  {
    of: ['snapshot: l1_size longer than the file'],
    better: 'the size of the L1 table is had from the disk, and the snapshot is kept',
    differs: ['all: 0, 1', 'again: 0, 2'],
  },
  {
    of: ['snapshot: l1_size too large'],
    better: 'the size of the L1 table is had from the disk, and the snapshot is kept',
    differs: ['all: 0, 2', 'again: 0, 2'],
  },
  {
    of: ["snapshot: L1 table is the disk's"],
    better: 'the counts are mended, and the image stays unwritten',
    differs: ['all: 0, 1', 'again: 0, 2'],
  },
  {
    of: ['snapshot: L1 table past the end', 'snapshot: L1 table far past the end', 'snapshot: L1 table off its cluster', 'snapshot: L1 table at 0'],
    better:
      'a snapshot whose L1 table is nowhere keeps its entry without one, so that the image can be used; leaks are left as long as they may be its clusters',
    differs: ['all: 0, 2', 'again: 0, 2'],
  },
  {
    of: ['snapshot: L1 table just past the end'],
    better:
      'a snapshot whose L1 table is nowhere keeps its entry without one, so that the image can be used; leaks are left as long as they may be its clusters',
    differs: ['leaks: 2, 1'],
  },
  {
    of: ['snapshot: extra data longer than 1024', 'snapshot: extra data longer than the file'],
    better: 'the disk is read, and a check counts what a repair will mend',
    differs: [
      'info: 0, 1',
      'snapshots: one,two, ',
      'reads: right right right, error error error',
      'check: 2, 1',
      'leaks: 2, 1',
      'salvaged: right right right, lost lost lost',
    ],
  },
  {
    of: ['snapshot: id longer than the file'],
    better: 'an id or name that ends past the end of the file is cut off there; QEMU loses the table',
    differs: ['all: 0, 2', 'again: 0, 2', 'kept: one,two, '],
  },
  {
    of: ['snapshot: name longer than the file'],
    better: 'an id or name that ends past the end of the file is cut off there; QEMU loses the table',
    differs: ['all: 0, 2', 'again: 0, 2', 'kept: one,two,three, '],
  },
  {
    of: ["cut in a snapshot's name"],
    better: 'an id or name that ends past the end of the file is cut off there; QEMU loses the table',
    differs: ['all: 0, 2', 'again: 0, 2'],
  },
  {
    of: ['snapshot table at 0'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: ['leaks: 2, 1', 'all: 0, 2', 'again: 0, 2'],
  },
  {
    of: ['snapshot table just past the end'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: ['leaks: 2, 1'],
  },
  {
    of: ['snapshot table off its cluster'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: [
      'info: 0, 1',
      'reads: right right right, error error error',
      'check: 2, 1',
      'leaks: 2, 1',
      'all: 0, 1',
      'again: 0, 1',
      'salvaged: right right right, lost lost lost',
    ],
  },
  {
    of: ['snapshot table far past the end', 'version 2: snapshot table past the end', 'cut in the snapshot table'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: ['all: 0, 2', 'again: 0, 2'],
  },
  {
    of: ['snapshot table overwritten'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: [
      'info: 0, 1',
      'reads: right right right, error error error',
      'check: 2, 1',
      'leaks: 2, 1',
      'salvaged: right right right, lost lost lost',
    ],
  },
  {
    of: ['snapshot table is the L1 table'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: ['all: 0, 1', 'again: 0, 2'],
  },
  {
    of: ['70000 snapshots'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: [
      'info: 0, 1',
      'snapshots: one,two,three, ',
      'reads: right right right, error error error',
      'check: 2, 1',
      'leaks: 2, 1',
      'all: 0, 1',
      'again: 0, 1',
      'salvaged: right right right, lost lost lost',
      'kept: one,two,three, ',
    ],
  },
  {
    of: ['L2 table is the header'],
    better: 'the check goes on to its end, where that of QEMU fails in the middle',
    differs: ['all: 2, 1'],
  },
  {
    of: ['version 2: one snapshot too many'],
    better: 'entries that cannot be read are given up and the rest kept; without a repair of everything, leaks are left that may be theirs',
    differs: ['check: 2, 0', 'leaks: 2, 0'],
  },
];
