/** qcow2 under the contract of formats: several geometries, and every header field broken in turn. */
import { setU64be } from '../../../src/base/bytes.ts';
import { type Damage, formatContract } from '../contract.ts';

const u32 = (what: string, at: number, value: number, field: string): Damage => ({
  what: `${what} = 0x${value.toString(16)}`,
  field,
  damage: (_, data) => {
    data.setUint32(at, value);
    return undefined;
  },
});

const u64 = (what: string, at: number, value: number, field: string): Damage => ({
  what: `${what} = 0x${value.toString(16)}`,
  field,
  damage: (_, data) => {
    setU64be(data, at, value);
    return undefined;
  },
});

const huge = (what: string, at: number, field: string): Damage => ({
  what: `${what} = 2^64 - 64 KiB`,
  field,
  damage: (_, data) => {
    data.setUint32(at, 0xffff_ffff);
    data.setUint32(at + 4, 0xffff_0000);
    return undefined;
  },
});

const first = (data: DataView, table: 'l1' | 'reftable') => Number(data.getBigUint64(table === 'l1' ? 40 : 48));

const common: readonly Damage[] = [
  u32('magic', 0, 0x514649fa, 'magic'),
  u32('version', 4, 0, 'version'),
  u32('version', 4, 4, 'version'),
  ...[0, 8, 22, 0xffff_ffff].map((bits) => u32('cluster_bits', 20, bits, 'cluster_bits')),
  u64('size', 24, 2 ** 53 - 512, 'size'),
  huge('size', 24, 'size'),
  u32('crypt_method', 32, 1, 'encrypt.key-secret'),
  u32('crypt_method', 32, 2, 'crypto header extension'),
  u32('crypt_method', 32, 3, 'crypt_method'),
  u32('l1_size', 36, 0xffff_ffff, 'l1_size'),
  u32('l1_size', 36, 0, 'l1_size'),
  u64('l1_table_offset', 40, 12345, 'l1_table_offset'),
  u64('l1_table_offset', 40, 2 ** 40, 'l1_table_offset'),
  huge('l1_table_offset', 40, 'l1_table_offset'),
  u64('refcount_table_offset', 48, 100, 'refcount_table_offset'),
  u64('refcount_table_offset', 48, 0, 'refcount_table_offset'),
  u64('refcount_table_offset', 48, 2 ** 50, 'refcount_table_offset'),
  u32('refcount_table_clusters', 56, 0, 'refcount_table_clusters'),
  u32('refcount_table_clusters', 56, 0xffff_ffff, 'refcount_table_clusters'),
  u32('nb_snapshots', 60, 0xffff_ffff, 'snapshot_table'),
  {
    what: 'snapshots_offset = 77',
    field: 'snapshot_table',
    damage: (_, data) => {
      data.setUint32(60, 1);
      data.setUint32(64, 0);
      data.setUint32(68, 77);
      return undefined;
    },
  },
  huge('backing_file_offset', 8, 'backing_file_offset'),
  {
    what: 'backing_file_size = 1024',
    field: 'backing_file_size',
    damage: (_, data) => {
      setU64be(data, 8, 2 ** data.getUint32(20) - 8);
      data.setUint32(16, 1024);
      return undefined;
    },
  },
  {
    what: 'a backing file that nobody resolves',
    field: 'backing_file',
    damage: (bytes, data) => {
      // A valid name in the header cluster; the contract opens without `resolve`.
      const at = 2 ** data.getUint32(20) - 8;
      setU64be(data, 8, at);
      data.setUint32(16, 4);
      bytes.set([46, 46, 47, 120], at);
      return undefined;
    },
  },
  ...[0, 50, 71].map((length): Damage => ({ what: `only ${length} bytes`, field: 'file size', damage: (bytes) => bytes.slice(0, length) })),
  {
    what: 'an L1 entry off its cluster',
    field: 'L2 table',
    damage: (_, data) => {
      setU64be(
        data,
        first(data, 'l1'),
        Number(data.getBigUint64(first(data, 'l1')) & 0xff_ffff_ffff_ffffn) + 512 * 3 + (data.getUint32(20) === 9 ? 2 ** 40 : 0),
      );
      return undefined;
    },
  },
  {
    what: 'an L1 entry past the end',
    field: 'L2 table',
    damage: (_, data) => {
      setU64be(data, first(data, 'l1'), 2 ** 45);
      return undefined;
    },
  },
];

const version3: readonly Damage[] = [
  ...[0, 72, 103].map((length) => u32('header_length', 100, length, 'header_length')),
  u32('header_length', 100, 2 ** 22, 'header_length'),
  u32('refcount_order', 96, 7, 'refcount_order'),
  u32('incompatible_features, high word', 72, 1, 'incompatible_features'),
  u32('incompatible_features, unknown bit', 76, 1 << 5, 'incompatible_features'),
  u32('incompatible_features, external data file', 76, 1 << 2, 'data_file'),
  u32('incompatible_features, corrupt', 76, 1 << 1, 'incompatible_features'),
  u32('compression type bit without a type', 76, 1 << 3, 'compression_type'),
  u32('compression_type without its bit', 104, 0x0100_0000, 'compression_type'),
  u32('header extension longer than the header', 116, 0xffff_ffff, 'header_extension_length'),
];

// Extension damage needs an extension: only clusters above 4 KiB have the feature names.
const withoutExtensions = [...common, ...version3].filter(({ field }) => field !== 'header_extension_length');

formatContract({ format: 'qcow2', options: {}, sizeUnit: 512, damages: [...common, ...version3] });
formatContract({
  format: 'qcow2',
  options: { cluster_size: 512, refcount_bits: 1 },
  sizeUnit: 512,
  damages: [...withoutExtensions, u32('extended L2 entries with small clusters', 76, 1 << 4, 'cluster_bits')],
});
formatContract({ format: 'qcow2', options: { cluster_size: 16384, extended_l2: 'on' }, sizeUnit: 512, damages: common });
formatContract({ format: 'qcow2', options: { cluster_size: 4096, compat: '0.10' }, sizeUnit: 512, damages: common });
