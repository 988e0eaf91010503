/** What the verbs and `io` say of an image over whose damage they stumble: a compressed cluster that is garbage, an entry that is not aligned. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { normal, type Outcome, Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -q -P 3 0 1M', 'base.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'good.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -q -c -P 5 0 64k', '-c', 'write -q -c -P 6 64k 64k', '-c', 'write -q -P 7 128k 300k', 'good.qcow2');
  putDamaged();
  for (const below of ['garbage', 'unaligned'])
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', `${below}.qcow2`, '-F', 'qcow2', `over-${below}.qcow2`, '1M');
});
afterAll(() => sides.remove());

/** garbage.qcow2: the second compressed cluster does not decode. unaligned.qcow2: nor is the place of guest offset 192k a cluster. */
function putDamaged(): void {
  for (const side of [sides.ours, sides.theirs]) {
    const bytes = readFileSync(join(side, 'good.qcow2'));
    const l2 = Number(bytes.readBigUInt64BE(0x30000) & 0xfffffffffffe00n);
    const compressed = Number(bytes.readBigUInt64BE(l2 + 8) & 0x3fffffffffffffn);
    bytes.fill(0xff, compressed, compressed + 60);
    writeFileSync(join(side, 'garbage.qcow2'), bytes);
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2 + 24) | 0x200n, l2 + 24);
    writeFileSync(join(side, 'unaligned.qcow2'), bytes);
  }
}

/** Without QEMU's own remark on the damage, which images open for reading do not make here. */
const withoutRemark = (outcome: Outcome): Outcome =>
  normal({ ...outcome, err: outcome.err.replace(/^qcow2: (Image is corrupt|Marking image as corrupt): .*\n/gm, '') });

const VERBS = `
map garbage.qcow2
map unaligned.qcow2
map --output=json unaligned.qcow2
measure -O qcow2 unaligned.qcow2
measure -O raw unaligned.qcow2
dd if=garbage.qcow2 of=x.raw bs=64k
dd if=unaligned.qcow2 of=x.raw bs=64k
bench -c 16 -d 1 -s 64k garbage.qcow2
bench -c 16 -d 1 -s 64k unaligned.qcow2
check garbage.qcow2
check unaligned.qcow2
rebase -b base.qcow2 -F qcow2 over-garbage.qcow2
rebase -b '' over-garbage.qcow2
rebase -b '' -p over-unaligned.qcow2
commit -d garbage.qcow2
compare -s garbage.qcow2 base.qcow2
compare unaligned.qcow2 unaligned.qcow2
convert -c -O qcow2 -m 1 garbage.qcow2 x.qcow2
convert -O qcow2 -m 1 -B base.qcow2 -F qcow2 garbage.qcow2 x.qcow2
convert -O qcow2 -m 1 unaligned.qcow2 x.qcow2
`;

const COMMANDS = ['read 64k 64k', 'read 192k 4k', 'write 192k 4k', 'write 64k 4k', 'alloc 0 1M', 'discard 192k 64k', 'write -z 192k 64k'].concat(
  'aio_read 64k 1k',
  'read -P 0 0 300k',
);

describe('a damaged image', () => {
  it.each(VERBS.trim().split('\n'))('%s', async (line) => {
    const args = line.split(' ').map((word) => (word === "''" ? '' : word));
    const theirs = sides.qemu('qemu-img', args);
    expect(withoutRemark(await sides.tabdisk(args))).toEqual(withoutRemark(theirs));
  });

  it.each(['garbage.qcow2', 'unaligned.qcow2'])('io: %s', async (name) => {
    for (const command of COMMANDS) {
      putDamaged();
      const theirs = sides.qemu('qemu-io', ['-c', command, name]);
      const ours = await sides.tabdisk(['io', '-c', command, name], { program: 'qemu-io' });
      expect(withoutRemark(ours), command).toEqual(withoutRemark(theirs));
    }
  });
});
