/** One suite for every format that is only read: images come from a small writer of the format's own test, and real QEMU reads them too. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { convert } from '../../src/jobs/convert.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { Sides } from '../cli/harness.ts';
import { firstDifference } from '../model/naive.ts';
import { Random } from '../random.ts';
import type { Damage } from './contract.ts';

/** An image, and what a guest reads from it. */
export interface ReadImageCase {
  readonly what: string;
  readonly file: Uint8Array;
  readonly guest: Uint8Array;
  /** QEMU has no code for some of its parts. */
  readonly beyondQemu?: boolean;
}

export interface ReadFormatCase {
  readonly format: string;
  readonly images: readonly ReadImageCase[];
  /** Damages of the first image. */
  readonly damages: readonly Damage[];
}

const SAMPLES = join(import.meta.dirname, '../../../shared/samples');

/** A sample from other people's software; undefined, and a line about it, where there is none. */
export function sample(name: string): Uint8Array | undefined {
  const path = join(SAMPLES, `${name}.bz2`);
  if (existsSync(path)) return new Uint8Array(execFileSync('bunzip2', ['-kc', path]));
  console.warn(`The sample ${name} is not beside the project: what is known of it is not tested`);
  return undefined;
}

/** Runs the suite. */
export function readContract({ format, images, damages }: ReadFormatCase): void {
  const open = (bytes: Uint8Array) => openDisk(memoryStorage({ bytes, readOnly: true }), { format, readOnly: true });

  describe.each(images)(`${format}, $what`, ({ file, guest, beyondQemu = false }) => {
    it('reads any offset and length', async () => {
      const disk = await open(file);
      expect(disk.size).toBe(guest.length);
      expect(firstDifference(await disk.read(0, disk.size), guest)).toBe(-1);
      const random = new Random(1);
      for (let i = 0; i < 150; i++) {
        const offset = random.between(0, guest.length - 1);
        const length = Math.min(guest.length - offset, random.pick([1, 511, 512, 4096, 70_001]));
        expect(firstDifference(await disk.read(offset, length), guest.subarray(offset, offset + length)), `read ${offset} ${length}`).toBe(-1);
      }
    });

    it('is converted, and cannot be written', async () => {
      const target = memoryStorage();
      await convert(await open(file), await createDisk(target, { format: 'raw', size: guest.length }));
      expect(firstDifference(target.bytes(), guest)).toBe(-1);
      await expect(openDisk(memoryStorage({ bytes: file }), { format })).rejects.toMatchObject({ kind: 'read-only', format });
      const disk = await open(file);
      await expect(disk.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'read-only' });
      await expect(disk.check()).rejects.toMatchObject({ kind: 'unsupported' });
      await disk.close();
    });

    it('a file cut off anywhere gives a DiskError or the bytes that are left', async () => {
      for (let i = 0; i <= 30; i++) {
        try {
          const disk = await open(file.slice(0, Math.floor((file.length * i) / 31)));
          for (let offset = 0; offset < disk.size; offset += 100_000) {
            const length = Math.min(100_000, disk.size - offset);
            try {
              expect(firstDifference(await disk.read(offset, length), guest.subarray(offset, offset + length))).toBe(-1);
            } catch (error) {
              expect(error).toBeInstanceOf(DiskError);
            }
          }
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        }
      }
    });

    it('QEMU says the same of it', { timeout: 60_000 }, async () => {
      const sides = new Sides();
      try {
        sides.put('image', file);
        sides.put('raw', guest);
        await sides.sameBatch('qemu-img', [
          ['info', '-f', format, 'image'],
          ['check', '-f', format, 'image'],
          ['map', '-f', format, 'image'],
          ['map', '-f', format, '--output=json', 'image'],
          ['measure', '-f', format, '-O', 'qcow2', '--output=json', 'image'],
          ['resize', '-f', format, 'image', '64M'],
          ['commit', '-f', format, 'image'],
          ['snapshot', '-l', 'image'],
          ...(beyondQemu ? [] : [['compare', '-f', format, '-F', 'raw', 'image', 'raw']]),
        ]);
        const facts = ['info', '-f', format, '--output=json', 'image'];
        const { 'actual-size': _, ...ours } = JSON.parse((await sides.tabdisk(facts)).out);
        const { 'actual-size': __, ...theirs } = JSON.parse(sides.qemu('qemu-img', facts).out);
        expect(ours).toEqual(theirs);
        await sides.sameBatch('qemu-io', [['-f', format, '-c', 'write 0 512', 'image']]);
      } finally {
        sides.remove();
      }
    });
  });

  describe(`${format}: damage`, () => {
    const [first] = images as [ReadImageCase];
    it.each(damages)('names the field: $what', async ({ field, damage }) => {
      const bytes = first.file.slice();
      const broken = damage(bytes, new DataView(bytes.buffer)) ?? bytes;
      const read = async () => {
        const disk = await open(broken);
        await disk.read(0, disk.size);
      };
      await expect(read()).rejects.toMatchObject({ name: 'DiskError', field, kind: expect.stringMatching(/corrupt|unsupported/) });
    });
  });
}
