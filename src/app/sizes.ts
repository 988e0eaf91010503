/**
 * The sizes that the create dialog offers, floppies by the names on their labels and disks by powers of two; and sizes as people write them. Units are
 * powers of 1024 in every spelling, as QEMU counts: "2 GB", "2 GiB" and "2g" are the same, and the dialog shows the bytes.
 */
import { parseSize } from '../index.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SECTOR = 512;

export interface SizePreset {
  readonly label: string;
  /** A value for `parseSize`. */
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

/** Names of floppies that do not state their size: "1.44M" is 1440 KiB. */
const FLOPPY_NAMES = new Map(FLOPPY_SIZES.map(({ label, bytes }) => [label.replace(' floppy', ''), bytes]));

/**
 * Bytes of a size as people write it: "2 GB", "2GiB", "1.44M", "737,280 bytes"; whole sectors of 512 bytes, rounded up. Throws `refused` for other text.
 */
export function writtenSize(text: string): number {
  const compact = text.replace(/\s/g, '');
  const number = /^\d{1,3}(,\d{3})+(?!\d)/.test(compact) ? compact.replaceAll(',', '') : compact.replace(',', '.');
  const value = number.replace(/bytes?$/i, 'b').replace(/([kmgtpe])i?b$/i, '$1');
  try {
    return FLOPPY_NAMES.get(value.toUpperCase()) ?? Math.ceil(parseSize(value) / SECTOR) * SECTOR;
  } catch {
    // The refusal quotes the user's own text.
    return parseSize(text);
  }
}

function tidy(bytes: number): string {
  return bytes >= 1024 ** 4 ? `${bytes / 1024 ** 4} TiB` : bytes >= 1024 ** 3 ? `${bytes / 1024 ** 3} GiB` : `${bytes / MiB} MiB`;
}
