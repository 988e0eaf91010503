/** Formats that are only recognised: what their headers say of size and geometry, of images from QEMU and of bytes laid down here. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

const look = (bytes: Uint8Array, format?: string) => inspect(memoryStorage({ bytes }), format === undefined ? {} : { format });

function fromQemu(format: string, options: string, size: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-recognised-'));
  try {
    execFileSync('qemu-img', ['create', '-q', '-f', format, '-o', options, 'image', size], { cwd: folder });
    return new Uint8Array(readFileSync(join(folder, 'image')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `length` bytes with little-endian 32-bit numbers at these places. */
function numbers(length: number, places: readonly (readonly [at: number, value: number])[], start = ''): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(new TextEncoder().encode(start));
  for (const [at, value] of places) new DataView(bytes.buffer).setUint32(at, value, true);
  return bytes;
}

test.each([
  ['vpc, dynamic', fromQemu('vpc', 'subformat=dynamic', '100M'), undefined, { size: 104_865_792, geometry: [1004, 12, 17] }],
  ['vpc, fixed: only by name', fromQemu('vpc', 'subformat=fixed', '4M'), 'vpc', { size: 4_212_736, geometry: [121, 4, 17] }],
  ['vmdk, sparse', fromQemu('vmdk', 'subformat=monolithicSparse', '100M'), undefined, { size: 100 * MiB, geometry: [203, 16, 63] }],
  ['vmdk, a descriptor', fromQemu('vmdk', 'subformat=monolithicFlat', '100M'), undefined, { size: 100 * MiB, geometry: [203, 16, 63] }],
  [
    'vmdk, SCSI',
    fromQemu('vmdk', 'subformat=monolithicSparse,adapter_type=lsilogic', '8G'),
    undefined,
    { size: 8192 * MiB, geometry: [1044, 255, 63] },
  ],
  [
    'vmdk of ESX',
    numbers(
      512,
      [
        [4, 1],
        [12, 20480],
        [32, 20],
        [36, 16],
        [40, 63],
      ],
      'COWD',
    ),
    undefined,
    { size: 10 * MiB, geometry: [20, 16, 63] },
  ],
  // QEMU states no geometry there.
  [
    'vmdk, its descriptor beyond the end',
    numbers(
      512,
      [
        [12, 8],
        [28, 100],
      ],
      'KDMV',
    ),
    undefined,
    { size: 4096, geometry: undefined },
  ],
  ['vmdk, cut off', new TextEncoder().encode('KDMV'), undefined, { size: undefined, geometry: undefined }],
  ['vpc by name, but without its mark', new Uint8Array(1024).fill(1), 'vpc', { size: undefined, geometry: undefined }],
  ['vpc by name, shorter than a sector', new Uint8Array(100), 'vpc', { size: undefined, geometry: undefined }],
] as const)('%s', async (_name, bytes, format, { size, geometry }) => {
  const report = await look(bytes, format);
  if (report.format !== 'vmdk')
    expect(report).toMatchObject({ supported: false, references: [], warnings: [expect.stringContaining('not supported yet')] });
  expect(report.size).toBe(size);
  const [cylinders, heads, sectors] = geometry ?? [];
  expect(report.geometry).toEqual(geometry && { cylinders, heads, sectors });
});
