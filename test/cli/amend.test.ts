import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { normal, Sides } from './harness.ts';

let sides: Sides;
beforeAll(() => {
  sides = new Sides();
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=8k', 'v3.qcow2', '4M');
  sides.prepare('qemu-io', '-c', 'write -P 7 100k 1M', '-c', 'write -z 2M 256k', '-c', 'write -z -u 200k 64k', 'v3.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=8k', 'v2.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'v3.qcow2', '-F', 'qcow2', 'over.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=8k', 'snapped.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write 0 1M', 'snapped.qcow2');
  for (const name of ['a', 'b']) sides.prepare('qemu-img', 'snapshot', '-c', name, 'snapped.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compression_type=zstd,cluster_size=8k', 'zstd.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -c 0 8k', 'zstd.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'data_file=d1.raw,data_file_raw=on', 'outside.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'd2.raw', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'plain.raw', '1M');
});
afterAll(() => sides.remove());

/** What an image is afterwards, by qemu-img and in either folder. */
async function sameAfter(name: string): Promise<void> {
  await sides.sameJson('info', '--output=json', name);
  const [ours, theirs] = [sides.ours, sides.theirs].map((side) => normal(sides.qemu('qemu-img', ['info', name], { side })));
  expect(ours).toEqual(theirs);
  expect(sides.qemu('qemu-img', ['check', name], { side: sides.ours }).status).toBe(0);
}

describe('amend', () => {
  it.each(
    `
      -o compat=0.10 v3.qcow2
      -o compat=1.1 v3.qcow2
      -o lazy_refcounts=on v3.qcow2
      -o lazy_refcounts=off,refcount_bits=64 v3.qcow2
      -f qcow2 -o refcount_bits=8,size=8M v3.qcow2
      -q -o size=6M,refcount_bits=16 v3.qcow2
      -o compat=v2 v3.qcow2
      -o compat=v3,refcount_bits=2,lazy_refcounts v2.qcow2
      -o compat=0.10,refcount_bits=16 v2.qcow2
      -o compat=0.10 over.qcow2
      -o compat=1.1,backing_file=v3.qcow2,backing_fmt=qcow2 over.qcow2
      -p -o compat=0.10 v2.qcow2
      --force -o size=3M over.qcow2
      -o data_file_raw=on,lazy_refcounts=on outside.qcow2
      -o data_file=d2.raw outside.qcow2
      -o data_file_raw=off outside.qcow2
    `
      .trim()
      .split('\n')
      .map((line) => line.trim()),
  )('%s', async (line) => {
    await sides.same('amend', ...line.split(' '));
    await sameAfter(line.split(' ').at(-1) as string);
  });

  it.each(
    `
      a.qcow2
      -o size=1M
      -f raw -o help
      -f raw -o size=2M plain.raw
      -f nothing -o help
      -f nothing -o size=1M v3.qcow2
      -t nothing -o size=1M v3.qcow2
      -o , v3.qcow2
      -o size=2M missing.qcow2
      -o size=2M v3.qcow2 v2.qcow2
      -o size=1000 v3.qcow2
      -o size=abc v3.qcow2
      -o nothing=1 v3.qcow2
      -o cluster_size=4096 v3.qcow2
      -o extended_l2=on v3.qcow2
      -o preallocation=full v3.qcow2
      -o lazy_refcounts=maybe v3.qcow2
      -o refcount_bits=3 v3.qcow2
      -o refcount_bits=0 v3.qcow2
      -o refcount_bits=128 v3.qcow2
      -o compat=1.2 v3.qcow2
      -o backing_file=x v3.qcow2
      -o backing_fmt=raw v3.qcow2
      -o backing_file=other over.qcow2
      -o backing_file=v3.qcow2 over.qcow2
      -o data_file_raw=on v3.qcow2
      -o data_file=x v3.qcow2
      -o compat=0.10,lazy_refcounts=on v2.qcow2
      -o compat=0.10,refcount_bits=8 v2.qcow2
      -o compat=v2,lazy_refcounts=on snapped.qcow2
      -o refcount_bits=1 snapped.qcow2
      -o compat=0.10 zstd.qcow2
      -o compat=0.10 outside.qcow2
      -o refcount_bits=8,compat=0.10 zstd.qcow2
      -o compat=0.10,size=2M zstd.qcow2
    `
      .trim()
      .split('\n')
      .map((line) => line.trim()),
  )('%s is answered as qemu-img answers it', async (line) => {
    await sides.same('amend', ...line.split(' '));
  });

  it('lists its options', async () => {
    const theirs = sides.qemu('qemu-img', ['amend', '-f', 'qcow2', '-o', 'help']);
    const ours = await sides.tabdisk(['amend', '-o', 'help', join(sides.ours, 'v3.qcow2')]);
    const names = (text: string) => text.split('\n').map((line) => line.split(' - ')[0]?.trim());
    expect(names(ours.out)).toEqual(names(theirs.out));
    expect(ours.status).toBe(0);
  });
});
