/** The sizes that the create dialog offers: floppies by the names on their labels, and disks by powers of two. */
import { formatSize } from '../index.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

export interface SizePreset {
  readonly label: string;
  /** What `parseSize` takes. */
  readonly value: string;
  readonly bytes: number;
}

/** Floppies have names that are not their sizes: "1.44M" holds 1440 KiB. */
export const FLOPPY_SIZES: readonly SizePreset[] = [
  ['160K', 160],
  ['180K', 180],
  ['320K', 320],
  ['360K', 360],
  ['720K', 720],
  ['1.2M', 1200],
  ['1.44M', 1440],
  ['2.88M', 2880],
].map(([label, kilobytes]) => ({ label: `${label} floppy`, value: `${kilobytes}k`, bytes: Number(kilobytes) * KiB }));

/** 64 MiB to 1 TiB. */
export const DISK_SIZES: readonly SizePreset[] = Array.from({ length: 15 }, (_, power) => {
  const bytes = 64 * MiB * 2 ** power;
  const mebibytes = bytes / MiB;
  return { label: tidy(bytes), value: mebibytes < 1024 ? `${mebibytes}M` : tidy(bytes).replace(/ ([GT])iB/, '$1'), bytes };
});

/** Cluster sizes of qcow2. */
export const CLUSTER_SIZES: readonly SizePreset[] = Array.from({ length: 13 }, (_, power) => {
  const bytes = 512 * 2 ** power;
  return { label: formatSize(bytes), value: String(bytes), bytes };
});

function tidy(bytes: number): string {
  return bytes >= 1024 ** 4 ? `${bytes / 1024 ** 4} TiB` : bytes >= 1024 ** 3 ? `${bytes / 1024 ** 3} GiB` : `${bytes / MiB} MiB`;
}
