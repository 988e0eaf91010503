/** Failures in words: what they tell the reader to do can be done. */
import { expect, test } from 'vitest';
import { failure, forProduct, readingAdvice } from '../../src/app/words.ts';
import { DiskError } from '../../src/index.ts';
import { formatFacts } from '../../src/library/image-formats.ts';

test('an image that this tab has open is not to be closed in another', () => {
  const message = '"a" is open in this tab, with its changes thrown away: close it first';
  for (const kind of ['locked', 'in-use'] as const) expect(failure(new DiskError(kind, message))).toBe(`${message}.`);
});

test('a check is advised for an image of this browser, and not for a file that was refused', () => {
  const error = new DiskError('corrupt', 'b.qcow2 is cut short');
  expect(failure(error)).toBe('b.qcow2 is cut short.');
  expect(readingAdvice(error)).toContain('Run a check');
  expect(readingAdvice(new DiskError('io', 'It cannot be read'))).toBe('');
});

test('formats are offered by the programs that they are for, with the endings that these know', () => {
  const offered = formatFacts().flatMap((facts) => (facts.capabilities.create ? [forProduct(facts)] : []));
  for (const known of [
    'QEMU (.qcow2)',
    'VirtualBox (.vdi)',
    'VMware (.vmdk)',
    'Hyper-V (.vhdx)',
    'Virtual PC and older Hyper-V (.vhd)',
    'any emulator (.img)',
  ])
    expect(offered).toContain(`for ${known}`);
});
