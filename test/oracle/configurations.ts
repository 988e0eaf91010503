/** The images on which we and QEMU take turns. */

export interface Configuration {
  /** As for `qemu-img create -o`. */
  readonly options: Readonly<Record<string, string | number>> & { readonly cluster_size: number };
  /** Over a backing file that is a little shorter or longer. */
  readonly backing?: boolean;
  /** Clusters are written compressed, too. */
  readonly compressed?: boolean;
}

const plain = (options: Configuration['options']): Configuration => ({ options });
const overlay = (options: Configuration['options']): Configuration => ({ options, backing: true });

export const CONFIGURATIONS: readonly Configuration[] = [
  ...[512, 1024, 2048, 4096, 16384, 65536, 2097152].map((cluster_size) => plain({ cluster_size })),
  ...[1, 2, 4, 8, 32, 64].map((refcount_bits) => plain({ cluster_size: 512, refcount_bits })),
  plain({ cluster_size: 65536, refcount_bits: 1 }),
  plain({ cluster_size: 4096, refcount_bits: 8 }),
  plain({ cluster_size: 2097152, refcount_bits: 64 }),
  ...[512, 4096, 65536].map((cluster_size) => plain({ cluster_size, compat: '0.10' })),
  ...[512, 4096, 65536].map((cluster_size) => overlay({ cluster_size })),
  overlay({ cluster_size: 512, refcount_bits: 1 }),
  overlay({ cluster_size: 4096, compat: '0.10' }),
  overlay({ cluster_size: 65536, compat: '0.10' }),
  ...[4096, 65536].map((cluster_size) => plain({ cluster_size, lazy_refcounts: 'on' })),
  ...[16384, 65536, 2097152].map((cluster_size) => plain({ cluster_size, extended_l2: 'on' })),
  ...[16384, 65536].map((cluster_size) => overlay({ cluster_size, extended_l2: 'on' })),
  plain({ cluster_size: 16384, extended_l2: 'on', refcount_bits: 1 }),
  ...[512, 65536].map((cluster_size) => ({ options: { cluster_size }, compressed: true })),
  { options: { cluster_size: 4096, compression_type: 'zstd' }, compressed: true },
  { options: { cluster_size: 65536, extended_l2: 'on', compression_type: 'zstd' }, compressed: true },
  { options: { cluster_size: 65536, extended_l2: 'on' }, compressed: true },
  { options: { cluster_size: 65536 }, compressed: true, backing: true },
  plain({ cluster_size: 4096, 'encrypt.format': 'aes' }),
  plain({ cluster_size: 65536, 'encrypt.format': 'luks', 'encrypt.iter-time': 1 }),
  overlay({ cluster_size: 16384, extended_l2: 'on', 'encrypt.format': 'luks', 'encrypt.iter-time': 1 }),
  ...[4096, 65536].map((cluster_size) => plain({ cluster_size, data_file: 'turns.data' })),
  plain({ cluster_size: 65536, data_file: 'turns.data', data_file_raw: 'on' }),
  plain({ cluster_size: 65536, data_file: 'turns.data', extended_l2: 'on' }),
];
