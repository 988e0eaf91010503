/** Layers that the command line puts over images, beside the real qemu-io and qemu-img: what they write, and the words in which they refuse. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
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

describe('blklogwrites', () => {
  const logged = (options = '', image = 'file.driver=file,file.filename=b.raw', log = 'b.log') =>
    `driver=blklogwrites,${image},log.driver=file,log.filename=${log}${options}`;
  const io = (image: string, ...commands: string[]) => ['-t', 'writeback', '--image-opts', image, ...commands.flatMap((command) => ['-c', command])];
  const sameFile = (name: string) => {
    const [ours, theirs] = [sides.ours, sides.theirs].map((side) => readFileSync(join(side, name)));
    expect(ours?.length).toBe(theirs?.length);
    expect(ours?.equals(theirs as Buffer), name).toBe(true);
  };
  beforeAll(() => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'b.raw', '1M');
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'b.qcow2', '1M');
    for (const name of ['b.log', 'b4k.log', 'b2.log', 'bq.log']) sides.put(name, '');
    sides.put('nonsense.log', 'hello');
  });

  it('makes the log that QEMU makes, byte for byte', async () => {
    const commands = [
      'write -P 1 0 4k',
      'write -P 2 512 512',
      'flush',
      'flush',
      'write -z 8k 4k',
      'discard 16k 4k',
      'write -zu 1k 1k',
      'aio_write -P 4 32k 1k',
    ];
    await sides.sameIo(
      io(logged(), ...commands, 'aio_flush', 'write -P 5 100 50', 'write -P 6 1000 5000', 'write -z 3000 100', 'truncate 2M', 'write 1536k 512'),
    );
    sameFile('b.log');
    sameFile('b.raw');
    // Goes on where it was, and at 4096 bytes a sector.
    await sides.sameIo(io(logged(',log-append=on,log-super-update-interval=2'), 'write -P 7 0 512', 'write -P 8 512 1k', 'write -z 0 64k'));
    sameFile('b.log');
    await sides.sameIo(io(logged(',log-sector-size=4k', undefined, 'b4k.log'), 'write -P 7 100 512', 'discard 64k 8k', 'write 8k 4k', 'flush'));
    sameFile('b4k.log');
    await sides.sameIo(io(logged(',log-append=on', undefined, 'b4k.log'), 'write -P 9 0 100'));
    sameFile('b4k.log');
    // Written over, not emptied; and begun, where there is nothing to append to.
    await sides.sameIo(io(logged(), 'write -P 1 0 512'));
    sameFile('b.log');
    await sides.sameIo(io(logged(',log-append=on', undefined, 'b2.log'), 'write -P 1 0 512'));
    sameFile('b2.log');
    await sides.sameIo(['-r', ...io(logged(), 'read 0 512')]);
    sameFile('b.log');
  });

  it('lies over a format, and each side goes on with the log of the other', async () => {
    const image = logged('', 'file.driver=qcow2,file.file.filename=b.qcow2', 'bq.log');
    await sides.sameIo(io(image, 'write -P 1 0 4k', 'write -P 2 100k 5k', 'map'));
    sameFile('bq.log');
    await sides.same('info', '--image-opts', logged(',log-append=on,log-super-update-interval=7'));
    await sides.same('info', '--image-opts', logged(',log-sector-size=1k'));
    const append = io(`${image},log-append=on`, 'write -P 3 0 512');
    expect(sides.qemu('qemu-io', append, { side: sides.ours }).status).toBe(0);
    expect((await sides.tabdisk(['io', ...append], { side: sides.theirs, program: 'qemu-io' })).status).toBe(0);
    sameFile('bq.log');
  });

  it('is refused in the same words', async () => {
    const images = [
      ...[
        'log-sector-size=100',
        'log-sector-size=0',
        'log-sector-size=16',
        'log-sector-size=16M',
        'log-sector-size=8M',
        'log-sector-size=x',
        'log-append=x',
      ],
      ...['log-super-update-interval=0', 'log-super-update-interval=x', 'log-append=on,log-sector-size=4k', 'foo=1'],
    ].map((options) => logged(`,${options}`));
    const nonsense = logged(',log-append=on', undefined, 'nonsense.log');
    const others = [
      nonsense,
      logged('', undefined, 'nofile'),
      logged('', 'file.driver=file,file.filename=nofile'),
      'driver=blklogwrites,log.filename=b.log',
    ];
    const lines = [...images, ...others, 'driver=blklogwrites,file.driver=file,file.filename=b.raw'].map((image) => io(image));
    const superBlock = (version: bigint, sectorSize: number, flags: bigint) => {
      const bytes = Buffer.alloc(2048);
      for (const [index, value] of [0x6a736677736872n, version, 1n].entries()) bytes.writeBigUInt64LE(value, index * 8);
      bytes.writeUInt32LE(sectorSize, 24);
      bytes.writeBigUInt64LE(flags, 512 + 16);
      return bytes;
    };
    for (const [name, bytes] of Object.entries({ v2: superBlock(2n, 512, 0n), odd: superBlock(1n, 500, 0n), flags: superBlock(1n, 512, 0x30n) })) {
      sides.put(`${name}.log`, bytes);
      lines.push(io(logged(',log-append=on', undefined, `${name}.log`)));
    }
    await sides.sameBatch('qemu-io', lines);
    await sides.same('info', 'blklogwrites:b.raw:b.log');
  });
});
