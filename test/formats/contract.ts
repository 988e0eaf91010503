/**
 * One suite for every format that can be created and written. A format's own test calls it with its options and the header fields
 * whose damage must be named.
 */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';

/** A way to damage an image, and the field the error must name. */
export interface Damage {
  readonly what: string;
  readonly field: string;
  damage(bytes: Uint8Array, data: DataView): Uint8Array | undefined;
}

/** What the suite needs to know of a format. */
export interface FormatCase {
  readonly format: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** Sizes are multiples of this. */
  readonly sizeUnit: number;
  readonly damages: readonly Damage[];
  /** The image is flushed and not closed. */
  readonly leftOpen?: true;
}

/** An image of mixed states with an odd tail, as file bytes, and what a guest reads from it. */
export async function mixedImage({ format, options, sizeUnit, leftOpen }: FormatCase): Promise<{ file: Uint8Array; guest: Uint8Array }> {
  const storage = memoryStorage();
  const size = 3 * 2 ** 20 + 5 * sizeUnit;
  const disk = await createDisk(storage, { format, size, ...options });
  const guest = new Uint8Array(size);
  const random = new Random(99);
  // Written out of order, so that the file's order is not the guest's.
  for (const start of [2_500_000, 70_000, 1_200_000, 300_001, size - 7000, 3]) {
    const bytes = random.bytes(6000);
    await disk.write(start, bytes);
    guest.set(bytes, start);
  }
  await disk.zero(1_201_000, 3000);
  guest.fill(0, 1_201_000, 1_204_000);
  await (leftOpen ? disk.flush() : disk.close());
  return { file: storage.bytes(), guest };
}

/** Runs the suite. */
export function formatContract(one: FormatCase): void {
  const { format } = one;
  const open = (bytes: Uint8Array, readOnly = false) => openDisk(memoryStorage({ bytes, readOnly }), { format, readOnly });

  describe(`${format} ${JSON.stringify(one.options)} keeps the contract of formats`, () => {
    it('reads any offset and length', async () => {
      const { file, guest } = await mixedImage(one);
      const disk = await open(file, true);
      expect(disk.size).toBe(guest.length);
      for (const around of [0, 511, 4096, 65536, 300_000, 1_200_000, guest.length - 5000]) {
        for (const shift of [-3, 0, 1, 257]) {
          for (const length of [0, 1, 511, 513, 4096, 70_001]) {
            const offset = Math.max(0, around + shift);
            const inside = Math.min(length, guest.length - offset);
            const found = await disk.read(offset, inside);
            expect(firstDifference(found, guest.subarray(offset, offset + inside)), `read ${offset} ${inside}`).toBe(-1);
          }
        }
      }
    });

    it('reads into an array of the caller and refuses what lies outside', async () => {
      const disk = await open((await mixedImage(one)).file, true);
      const into = new Uint8Array(10);
      expect(await disk.read(3, into)).toBe(into);
      for (const [offset, length] of [
        [disk.size, 1],
        [-1, 1],
        [0, disk.size + 1],
      ] as const)
        await expect(disk.read(offset, length)).rejects.toMatchObject({ kind: 'out-of-bounds' });
      for (const offset of [0.5, Number.NaN]) await expect(disk.read(offset, 1)).rejects.toMatchObject({ kind: 'refused', field: 'offset' });
    });

    it('writes any offset and length, and has it after opening again', async () => {
      const { file, guest } = await mixedImage(one);
      const storage = memoryStorage({ bytes: file });
      const disk = await openDisk(storage, { format });
      const random = new Random(5);
      for (const offset of [0, 1, 511, 65_535, 1_202_000, guest.length - 513]) {
        for (const length of [1, 512, 513, 66_000]) {
          const bytes = random.bytes(Math.min(length, guest.length - offset));
          await disk.write(offset, bytes);
          guest.set(bytes, offset);
        }
      }
      await disk.flush();
      const again = await open(storage.bytes(), true);
      expect(firstDifference(await again.read(0, again.size), guest)).toBe(-1);
    });

    it('refuses every change when it is open read-only', async () => {
      const { file } = await mixedImage(one);
      const storage = memoryStorage({ bytes: file });
      const disk = await openDisk(storage, { format, readOnly: true });
      const refused = { kind: 'read-only' };
      await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject(refused);
      await expect(disk.zero(0, 1)).rejects.toMatchObject(refused);
      await expect(disk.discard(0, 1)).rejects.toMatchObject(refused);
      await expect(disk.resize(0)).rejects.toMatchObject(refused);
      await disk.flush();
      await disk.close();
      expect(firstDifference(storage.bytes(), file)).toBe(-1);
    });

    it('refuses to be created over something and for unknown options, by name', async () => {
      const create = (options: Record<string, unknown>, bytes?: Uint8Array) =>
        createDisk(memoryStorage(bytes ? { bytes } : {}), { format, size: 1 << 20, ...one.options, ...options });
      await expect(create({}, new Uint8Array([1]))).rejects.toMatchObject({ kind: 'refused' });
      await expect(create({ flavour: 'mint' })).rejects.toMatchObject({ kind: 'refused', field: 'flavour' });
      await expect(create({ size: -1 })).rejects.toMatchObject({ kind: 'refused', field: 'size' });
    });

    it('a closed disk refuses requests, and closing twice is fine', async () => {
      const disk = await open((await mixedImage(one)).file);
      await disk.close();
      await disk.close();
      await expect(disk.read(0, 1)).rejects.toMatchObject({ kind: 'io' });
      await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
    });

    it.each(one.damages)('names the field: $what', async ({ field, damage }) => {
      const { file } = await mixedImage(one);
      const broken = damage(file, new DataView(file.buffer)) ?? file;
      const failure = await useAll(broken, format);
      expect(failure).toBeInstanceOf(DiskError);
      expect((failure as DiskError).field).toBe(field);
      expect(['corrupt', 'unsupported', 'wrong-format', 'refused']).toContain((failure as DiskError).kind);
    });

    it('a file cut off anywhere gives a DiskError or the bytes that are left, never anything else', async () => {
      const { file, guest } = await mixedImage(one);
      for (let i = 0; i <= 60; i++) {
        const length = Math.floor((file.length * i) / 61);
        let disk: Awaited<ReturnType<typeof open>>;
        try {
          disk = await open(file.slice(0, length), true);
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
          continue;
        }
        for (let offset = 0; offset < disk.size; offset += 50_000) {
          const count = Math.min(50_000, disk.size - offset);
          try {
            const found = await disk.read(offset, count);
            if (firstDifference(found, guest.subarray(offset, offset + count)) < 0) continue;
            // The file's last cluster may be cut off: its end reads as zero.
            for (let at = 0; at < count; at++)
              if (found[at] !== 0 && found[at] !== guest[offset + at]) throw new Error(`byte ${offset + at} was made up`);
          } catch (error) {
            expect(error).toBeInstanceOf(DiskError);
          }
        }
      }
    });
  });
}

/** Opens, reads everything, checks, and opens for writing: the first failure, or undefined. */
async function useAll(bytes: Uint8Array, format: string): Promise<unknown> {
  try {
    const disk = await openDisk(memoryStorage({ bytes, readOnly: true }), { format, readOnly: true });
    await disk.read(0, disk.size);
    await (await openDisk(memoryStorage({ bytes }), { format })).close();
    return undefined;
  } catch (error) {
    return error;
  }
}
