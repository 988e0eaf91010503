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

describe('quorum', () => {
  const children = (...files: string[]) => files.map((file, i) => `children.${i}.driver=raw,children.${i}.file.filename=${file}`).join(',');
  const three = (options: string) => `driver=quorum,${options},${children('q0.raw', 'q1.raw', 'q2.raw')}`;
  const two = (options: string) => `driver=quorum,${options},${children('q0.raw', 'q1.raw')}`;
  const io = (image: string, ...commands: string[]) => ['--image-opts', image, ...commands.flatMap((command) => ['-c', command])];
  beforeAll(() => {
    for (const name of ['q0.raw', 'q1.raw', 'q2.raw']) {
      sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', name, '1M');
      sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 5 0 1M', name);
    }
    for (const name of ['longer.raw', 'e0.raw', 'e1.raw']) sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', name, '2M');
    sides.prepare('qemu-io', '-f', 'raw', '-c', 'write 0 128k', '-c', 'write 1M 64k', 'e0.raw');
    sides.prepare('qemu-io', '-f', 'raw', '-c', 'write 0 192k', '-c', 'write 1536k 64k', 'e1.raw');
  });

  it('is refused in the same words', async () => {
    const images = [
      ...['rewrite-corrupted=off', 'vote-threshold=0', 'vote-threshold=4', 'vote-threshold=-1', 'vote-threshold=x'].map(three),
      ...['read-pattern=foo', 'blkverify=x', 'blkverify=on', 'foo=1'].map((option) => three(`vote-threshold=2,${option}`)),
      two('vote-threshold=1,blkverify=on'),
      two('vote-threshold=2,blkverify=on,rewrite-corrupted=on'),
      'driver=quorum,vote-threshold=2',
      'driver=quorum,vote-threshold=2,children=a',
      'driver=quorum,vote-threshold=2,children.0=a,children.1=b',
      three('vote-threshold=2,children.4.driver=raw,children.4.file.filename=q0.raw'),
      three('vote-threshold=2,children.x.driver=raw'),
      three('vote-threshold=2,children.3.foo=raw'),
      `driver=quorum,vote-threshold=2,${children('q0.raw', 'longer.raw')}`,
      `driver=quorum,vote-threshold=2,${children('q0.raw', 'nofile')}`,
    ];
    await sides.sameBatch('qemu-io', [...images.map((image) => io(image)), ['-r', ...io(three('vote-threshold=2,rewrite-corrupted=on'))]]);
    await sides.same('info', 'quorum:q0.raw');
    await sides.same('check', '--image-opts', three('vote-threshold=2'));
    await sides.same('resize', '--image-opts', three('vote-threshold=2'), '2M');
  });

  it('is described and written alike, and all children have everything', async () => {
    await sides.sameIo(
      io(
        three('vote-threshold=2'),
        'write -P 6 0 64k',
        'write -P 7 1000 3000',
        'discard 0 64k',
        'write -z 128k 64k',
        'flush',
        'truncate 2M',
        'map',
        'alloc 0 64k',
      ),
    );
    const json = `json:{"driver":"quorum","vote-threshold":2,"children":[{"driver":"raw","file.filename":"q0.raw"},{"driver":"file","filename":"q1.raw"}]}`;
    for (const image of [['--image-opts', three('vote-threshold=2,read-pattern=quorum')], [json]]) {
      await sides.same('info', ...image);
    }
    await sides.sameJson('map', '--output=json', '--image-opts', `driver=quorum,vote-threshold=2,${children('e0.raw', 'e1.raw')}`);
    for (const name of ['q1.raw', 'q2.raw']) await sides.same('compare', '-f', 'raw', '-F', 'raw', 'q0.raw', name);
    expect(
      sides.qemu('qemu-io', io(three('vote-threshold=3'), 'read -P 7 1000 3000', 'read -P 0 128k 64k', 'read -P 6 8k 56k'), { side: sides.ours })
        .status,
    ).toBe(0);
  });

  it('a child that is wrong is outvoted, and mended if asked', async () => {
    const damage = (name: string, command: string) => sides.prepare('qemu-io', '-f', 'raw', '-c', command, name);
    const wrong = (name: string) => ['-f', 'raw', '-c', 'read -P 5 300k 64k', name];
    for (const name of ['q0.raw', 'q1.raw', 'q2.raw']) damage(name, 'write -P 5 300k 64k');
    damage('q1.raw', 'write -P 9 310k 4k');
    const read = 'read -P 5 300k 64k';
    await sides.sameIo(io(three('vote-threshold=2'), read));
    await sides.sameIo(io(three('vote-threshold=3'), read, 'read -P 5 320k 8k'));
    await sides.sameIo(io(three('vote-threshold=2,read-pattern=fifo'), read));
    await sides.sameIo(wrong('q1.raw'));
    await sides.sameIo(io(two('vote-threshold=2,blkverify=on'), 'read -P 5 300k 4k', 'read 308k 8k', 'read 0 4k'));
    await sides.sameIo(io(three('vote-threshold=2,rewrite-corrupted=on'), read));
    expect((await sides.sameIo(wrong('q1.raw'))).status).toBe(0);
    damage('q1.raw', 'write -P 9 310k 4k');
    damage('q2.raw', 'write -P 8 311k 1k');
    await sides.sameIo(io(three('vote-threshold=2'), read));
    await sides.sameIo(io(three('vote-threshold=2'), 'read -P 5 318k 2k'));
    // As many votes for one as for the other: both believe the same.
    await sides.sameIo(io(three('vote-threshold=1'), 'read -v 311k 16'));
    await sides.sameIo(io(three('vote-threshold=1,rewrite-corrupted=on'), 'read -P 8 311k 1k'));
    for (const name of ['q1.raw', 'q2.raw']) await sides.same('compare', '-f', 'raw', '-F', 'raw', 'q0.raw', name);
  });
});
