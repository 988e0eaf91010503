/** Formats that are only recognised: what their headers say of size and geometry, of images from QEMU and of bytes laid down here. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { inspect } from '../../src/disk/inspect.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

const look = (bytes: Uint8Array) => inspect(memoryStorage({ bytes }));

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
  ['vmdk, sparse', fromQemu('vmdk', 'subformat=monolithicSparse', '100M'), { size: 100 * MiB, geometry: [203, 16, 63] }],
  ['vmdk, a descriptor', fromQemu('vmdk', 'subformat=monolithicFlat', '100M'), { size: 100 * MiB, geometry: [203, 16, 63] }],
  ['vmdk, SCSI', fromQemu('vmdk', 'subformat=monolithicSparse,adapter_type=lsilogic', '8G'), { size: 8192 * MiB, geometry: [1044, 255, 63] }],
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
    { size: 4096, geometry: undefined },
  ],
  ['vmdk, cut off', new TextEncoder().encode('KDMV'), { size: undefined, geometry: undefined }],
] as const)('%s', async (_name, bytes, { size, geometry }) => {
  const report = await look(bytes);
  expect(report).toMatchObject({ supported: false, references: [], warnings: [expect.stringContaining('not supported yet')] });
  expect(report.size).toBe(size);
  const [cylinders, heads, sectors] = geometry ?? [];
  expect(report.geometry).toEqual(geometry && { cylinders, heads, sectors });
});
