/** Layers that the command line puts over images, beside the real qemu-io and qemu-img: what they write, and the words in which they refuse. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

let sides: Sides;
beforeAll(() => {
  sides = new Sides();
  sides.put('odd.raw', new Uint8Array(100_000).fill(7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'a.raw', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -P 5 64k 100k', 's.qcow2');
});
afterAll(() => sides.remove());

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

describe('throttle', () => {
  const over = (image: string) => `driver=throttle,throttle-group=tg,${image}`;
  const RAW = over('file.driver=raw,file.file.filename=a.raw');
  const group = (properties: string): string[] => ['--object', properties.startsWith('{') ? properties : `throttle-group,${properties}`];

  it('groups are refused in the same words', async () => {
    const refused = lines(`
id=tg,x-bps-total=10,x-bps-read=10
id=tg,x-bps-total=10,x-bps-total-max=5
id=tg,x-bps-total-max=5
id=tg,x-bps-total-max-length=0
id=tg,x-bps-total=10,x-bps-total-max-length=5
id=tg,x-bps-total=-1
id=tg,x-bps-total=1000000000000001
id=tg,x-iops-size=3
id=tg,x-bps-total=1k
id=tg,x-bps-total=abc
id=tg,x-bps-total=
id=tg,x-bps-total=1.5
id=tg,x-bps-total
id=tg,x-bps-total=99999999999999999999
id=tg,foo=3
id=tg,x-bps-total=-1,foo=3
id=tg,limits.bps-total=abc
id=tg,limits.foo=3
id=tg,limits=3
id=tg,limits.=3
id=tg,limits.bps-total=-1
id=tg,limits.bps-total=10,limits.bps-read=4
id=tg,x-bps-total=5,limits.bps-total-max=10
id=tg,limits.bps-total=5,limits.bps-total-max=10,limits.bps-total-max-length=4294967296
id=tg,limits.bps-total=5,limits.bps-total-max=10,limits.bps-total-max-length=-1
id=tg,limits.iops-size=-10
id=tg,x-bps-total-max=1000000000000000,x-bps-total=5,x-bps-total-max-length=4294967295
id=tg,x-bps-total-max-length=4294967296
id=tg,x-bps-total=5,x-bps-total-max=10,x-bps-total-max-length=-1
id=tg,x-iops-size=-1
id=9tg
x-bps-total=4
{"qom-type":"throttle-group","id":"tg","limits":{"iops-total":"5"}}
{"qom-type":"throttle-group","id":"tg","limits":{"iops-total":1.5}}
{"qom-type":"throttle-group","id":"tg","limits":{"iops-total":4,"x":3}}
{"qom-type":"throttle-group","id":"tg","limits":[]}
{"qom-type":"throttle-group","id":"tg","x-iops-total":null}
{"qom-type":"throttle-group","id":4}
`);
    await sides.sameBatch(
      'qemu-io',
      refused.map((properties) => [...group(properties), '--image-opts', RAW, '-c', 'length']),
    );
  });

  it('images are opened, or refused in the same words', async () => {
    const groups = lines(`
id=tg
id=tg,x-bps-total=1000000000000000
id=tg,x-iops-total=0x10,x-iops-size=100
id=tg,x-iops-total=07,
id=tg,limits.bps-total=100000,limits.bps-total-max=200000,x-bps-total-max-length=3
{"qom-type":"throttle-group","id":"tg","limits":{"iops-total":500},"x-iops-total":600}
`);
    const tg = group('id=tg');
    await sides.sameBatch('qemu-io', [
      ...groups.map((properties) => [...group(properties), '--image-opts', RAW, '-c', 'length', '-c', 'read 0 4k']),
      [...tg, '--image-opts', 'driver=throttle,file.driver=raw,file.file.filename=a.raw'],
      [...tg, '--image-opts', 'driver=throttle,throttle-group=x,file.driver=raw,file.file.filename=a.raw'],
      [...tg, '--image-opts', 'driver=throttle,throttle-group=tg'],
      [...tg, '--image-opts', `${RAW},foo=3`],
      [...tg, ...tg, '--image-opts', RAW],
      ['--object', 'secret,id=tg,data=x', ...tg, '--image-opts', RAW],
      ['--object', 'secret,id=tg,data=x', '--image-opts', RAW],
    ]);
  });

  it('images are written and described alike', async () => {
    const tg = group('id=tg,x-iops-total=100000,x-bps-write=100000000');
    const image = over('file.driver=qcow2,file.file.filename=s.qcow2');
    const commands = [
      'write -P 1 0 8k',
      'write -z 70k 20k',

      'aio_write -P 2 200k 5k',
      'aio_flush',
      'discard 128k 64k',
      'flush',
      'truncate 2M',
      'map',
    ];
    await sides.sameIo([...tg, '--image-opts', image, ...commands.flatMap((command) => ['-c', command])]);
    await sides.same('info', ...tg, '--image-opts', image);
    await sides.same(
      'info',
      ...tg,
      `json:{'driver':'qcow2','file':{'driver':'throttle','throttle-group':'tg','file':{'driver':'file','filename':'s.qcow2'}}}`,
    );
    await sides.sameJson('map', '--output=json', ...tg, '--image-opts', image);
    await sides.same('convert', ...tg, '--image-opts', '-O', 'raw', image, 'converted.raw');
    expect((await sides.same('compare', 's.qcow2', 'converted.raw')).status).toBe(0);
  });
});
