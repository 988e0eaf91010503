/** A larger disk: which extent grows, and which are added. Only growth; the size is in the header of an image of one file, else in the lines about its extents. */
import { DiskError, unsupported } from '../../base/errors.ts';
import { SECTOR } from '../../base/units.ts';
import { PIECE } from './create.ts';
import type { ExtentLine } from './descriptor-text.ts';
import { FORMAT } from './layout.ts';

/** Refuses a new size that an image cannot have, in QEMU's words for other formats. */
export function requireGrowth(from: number, to: number, preallocation: string): void {
  const refused = (kind: 'refused' | 'unsupported', field: string, message: string) =>
    new DiskError(kind, `${FORMAT}: ${message}`, { format: FORMAT, field });
  if (preallocation !== 'off') throw refused('unsupported', 'preallocation', `Unsupported preallocation mode '${preallocation}'`);
  if (to % SECTOR !== 0) throw refused('refused', 'size', 'the size must be a multiple of 512');
  if (to < from) throw refused('unsupported', 'size', 'Shrinking images is currently not supported');
}

/** The lines of a disk that grows: the last ones of `lines` with its new size, and new ones behind it, in pieces of 2 GiB where the type says so. */
export function grownLines(lines: readonly ExtentLine[], createType: string, size: number): { last: ExtentLine; added: ExtentLine[] } {
  const line = lines.at(-1);
  if (!line) throw unsupported(FORMAT, 'an image without extents does not grow', { field: 'extent' });
  const before = lines.slice(0, -1).reduce((sum, one) => sum + one.size, 0);
  const split = /^(two|2)gb/i.test(createType);
  const last = { ...line, size: split ? Math.max(line.size, Math.min(PIECE, size - before)) : size - before };
  const added: ExtentLine[] = [];
  for (let end = before + last.size; end < size; end += PIECE)
    added.push({ kind: line.kind, name: nextName(added.at(-1)?.name ?? line.name), start: 0, size: Math.min(PIECE, size - end) });
  return { last, added };
}

/** The name of the piece behind the one of this name. */
export function nextName(name: string): string {
  const match = /^(.*-[sf])(\d{1,6})(\.[^.]*)?$/s.exec(name);
  if (!match) throw unsupported(FORMAT, `the name of an extent behind ${JSON.stringify(name)} is not known`, { field: 'extent' });
  const [, stem = '', number = '', ending = ''] = match;
  return `${stem}${String(Number(number) + 1).padStart(number.length, '0')}${ending}`;
}
