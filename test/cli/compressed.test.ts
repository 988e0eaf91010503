/** `convert -c` beside qemu-img's: the same contents, the same map, as many compressed clusters. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pattern, sparseBytes } from '../jobs/fixtures.ts';
import { Random } from '../random.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

beforeAll(() => {
  const random = new Random(31);
  // Runs of data that repeats, of noise that does not, and of zeros, on and off cluster borders.
  const bytes = sparseBytes(31, 5 * 1024 * 1024 + 2560);
  for (let at = 3000; at < bytes.length; at += random.between(100_000, 700_000)) bytes.set(random.bytes(Math.min(90_000, bytes.length - at)), at);
  sides.put('a.raw', bytes);
  sides.put('b.raw', pattern(700_416, 5));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.raw', '-F', 'raw', 's.qcow2', '6M');
  sides.prepare('qemu-io', '-c', 'write -P 7 3M 100k', '-c', 'write -z 1M 192k', '-c', 'write -P 9 70k 3k', 's.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'there.qcow2', '6M');
});

describe('convert -c', () => {
  it.each([
    '-c -m 1 -f raw -O qcow2 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -o cluster_size=512 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -o cluster_size=4k,refcount_bits=2 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -o cluster_size=2M,refcount_bits=1 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -o cluster_size=16k,extended_l2=on a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -o compat=0.10 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 -S 0 a.raw out.qcow2',
    '-c -m 1 -f raw -O qcow2 a.raw b.raw out.qcow2',
    '-c -m 1 -O qcow2 s.qcow2 out.qcow2',
    '-c -m 1 -O qcow2 -B a.raw -F raw s.qcow2 out.qcow2',
    '-c -m 1 -n -O qcow2 s.qcow2 there.qcow2',
  ])('%s', { timeout: 60_000 }, async (line) => {
    await sides.same('convert', ...line.split(' '));
    const name = line.split(' ').at(-1) as string;
    const both = (...args: string[]) => [sides.ours, sides.theirs].map((side) => sides.qemu('qemu-img', [...args, name], { side }));
    const [ours, theirs] = both('check', '--output=json').map(({ out, status }) => ({ ...JSON.parse(out), status }));
    expect(ours).toMatchObject({ status: 0 });
    for (const key of ['total-clusters', 'allocated-clusters', 'compressed-clusters']) expect(ours[key], key).toBe(theirs[key]);
    expect(ours['compressed-clusters']).toBeGreaterThan(0);
    // Zeros over a target that reads as zero already are written by QEMU, and left out here.
    const fresh = !line.includes('-n');
    const compared = sides.qemu('qemu-img', ['compare', ...(fresh ? ['-s'] : []), join(sides.ours, name), join(sides.theirs, name)]);
    expect(compared).toMatchObject({ out: 'Images are identical.\n', status: 0 });
    const kinds = (text: string) => JSON.parse(text).map(({ offset: _, ...run }: Record<string, unknown>) => run);
    const [ourMap, theirMap] = both('map', '--output=json').map(({ out }) => kinds(out));
    if (fresh) expect(ourMap).toEqual(theirMap);
    const [ourSize, theirSize] = both('info', '--output=json').map(({ out }) => JSON.parse(out)['virtual-size']);
    expect(ourSize).toBe(theirSize);
  });

  it('is refused where qemu-img refuses it', async () => {
    await sides.same('convert', '-c', '-O', 'raw', 's.qcow2', 'out.raw');
    await sides.same('convert', '-c', '-O', 'qcow2', '-o', 'preallocation=full', 's.qcow2', 'out.qcow2');
  });
});
