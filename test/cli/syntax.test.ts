/**
 * How images are named: options, `json:` names and protocols, beside the real tools. Each list runs through both; what tabdisk makes is
 * read by QEMU and the other way round.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

let sides: Sides;
beforeAll(() => {
  sides = new Sides();
  sides.put('odd.raw', new Uint8Array(100_000).fill(7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'a.raw', '1M');
  sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 5 0 1M', 'a.raw');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', './x:y.raw', '64k');
  sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 6 0 64k', './x:y.raw');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -P 5 0 64k', '-c', 'write -P 5 128k 100k', '-c', 'write -P 5 900k 3k', 's.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 's.qcow2', '-F', 'qcow2', 'o.qcow2');
  sides.prepare('qemu-io', '-c', 'write -P 9 64k 64k', 'o.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'json:{"driver":"raw","file.filename":"a.raw"}', '-F', 'raw', 'j.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'json:{"driver":"raw"}', '-F', 'raw', 'lost.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', '1M');
});
afterAll(() => sides.remove());

/** Words without quotes: nothing here has a space inside. */
const words = (line: string): string[] => line.split(' ');
const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

describe('images read the same under any name', () => {
  const names = lines(`
--image-opts driver=qcow2,file.driver=file,file.filename=s.qcow2
--image-opts file.filename=s.qcow2
--image-opts driver=raw,file.filename=odd.raw,offset=1k
--image-opts driver=raw,file.filename=a.raw,offset=0x200,size=64k
--image-opts driver=qcow2,file.filename=o.qcow2,backing.driver=raw,backing.file.filename=a.raw
--image-opts driver=qcow2,file.filename=s.qcow2,lazy-refcounts=on,cache-size=1M,overlap-check=none,pass-discard-request=off
--image-opts driver=qcow2,file.filename=s.qcow2,read-only=on,cache.direct=off,discard=unmap,detect-zeroes=unmap,node-name=n0
--image-opts driver=compress,file.driver=qcow2,file.file.filename=o.qcow2
--image-opts driver=qcow2,file.driver=preallocate,file.prealloc-size=1M,file.file.filename=s.qcow2
json:{"driver":"qcow2","file":{"driver":"file","filename":"s.qcow2"}}
json:{"driver":"qcow2","file.filename":"o.qcow2","backing":null}
json:{'driver':'qcow2','file.filename':'o.qco\\u00772'}
json:{"driver":"null-co","size":65536,"read-zeroes":true}
json:{"driver":"raw","size":"64k","file":{"driver":"blkverify","raw":{"driver":"file","filename":"a.raw"},"test":{"driver":"raw","file.filename":"a.raw"}}}
file:x:y.raw
file:s.qcow2
blkverify:a.raw:a.raw
null-co://
null-aio://
j.qcow2
`);
  it.each(names)('info %s', async (name) => {
    // What info does not open it does not know either.
    expect((await sides.same('info', ...words(name.replace(/,backing.*$/, '')))).status).toBe(0);
  });

  // What null-co and blkverify say about allocation is not worth telling apart.
  it.each(names.filter((name) => !/null-|blkverify/.test(name)))('map %s', async (name) => {
    expect((await sides.same('map', ...words(name))).status).toBe(0);
  });

  it.each([
    'info --output=json json:{"driver":"compress","file":{"driver":"qcow2","file.filename":"s.qcow2"}}',
    'info --backing-chain --output=json j.qcow2',
    'info --output=json --image-opts driver=raw,offset=512,file.filename=a.raw',
    'map --output=json --image-opts driver=compress,file.driver=qcow2,file.file.filename=o.qcow2',
    'check --output=json --image-opts driver=qcow2,file.filename=s.qcow2',
  ])('%s', async (line) => {
    await sides.sameJson(...words(line));
  });

  it.each([
    'check json:{"driver":"qcow2","file.filename":"o.qcow2"}',
    'compare --image-opts driver=qcow2,file.filename=s.qcow2 driver=raw,file.filename=a.raw',
    'compare json:{"driver":"raw","offset":131072,"size":65536,"file.filename":"a.raw"} x:y.raw',
    'compare -f raw -F raw json:{"driver":"raw","offset":131072,"size":65536,"file.filename":"a.raw"} file:x:y.raw',
    'measure -O qcow2 --image-opts driver=qcow2,file.filename=o.qcow2',
    'snapshot -l --image-opts driver=qcow2,file.filename=s.qcow2',
    'bench -c 2 -f raw null-co://',
    'amend --image-opts -o lazy_refcounts=on driver=qcow2,file.filename=s.qcow2',
    'bitmap --image-opts --add driver=qcow2,file.filename=s.qcow2 b0',
  ])('%s', async (line) => {
    await sides.same(...words(line));
  });
});

describe('wrong names', () => {
  it.each(
    lines(`
info --image-opts filename=s.qcow2
info --image-opts driver=raw,file.filename=a.raw,size=1000
info --image-opts driver=raw,file.filename=a.raw,offset=4M
info --image-opts driver=raw,file.filename=a.raw,offset=512k,size=2M
info --image-opts driver=raw,file.filename=a.raw,offset=-1
info --image-opts driver=raw,file.filename=a.raw,offset=16E
info --image-opts driver=raw,file.filename=a.raw,foo=1
info --image-opts driver=qcow2,file.filename=s.qcow2,foo.bar=1
info --image-opts driver=qcow2,file.filename=s.qcow2,file.foo=1
info --image-opts driver=qcow2,file.filename=s.qcow2,zoo=1,bar=2,qux=3
info --image-opts driver=nope,file.filename=s.qcow2
info --image-opts driver=qcow2,file.driver=nope,file.filename=s.qcow2
info --image-opts driver=qcow2
info --image-opts driver=qcow2,file.driver=file
info --image-opts driver=qcow2,file=s.qcow2
info --image-opts file=x,file.filename=a.raw
info --image-opts s.qcow2
info --image-opts ,
info --image-opts id=9x,driver=raw,file.filename=a.raw
info --image-opts driver=qcow2,,file.filename=s.qcow2
info --image-opts driver=raw,file.filename=a.raw,no,foo
info --image-opts -f qcow2 driver=qcow2,file.filename=s.qcow2
info --image-opts driver=qcow2,file.filename=s.qcow2,read-only=maybe
info --image-opts driver=qcow2,file.filename=s.qcow2,cache.direct=x
info --image-opts driver=qcow2,file.filename=s.qcow2,discard=foo
info --image-opts driver=qcow2,file.filename=s.qcow2,detect-zeroes=foo
info --image-opts driver=qcow2,file.filename=s.qcow2,detect-zeroes=unmap
info --image-opts driver=qcow2,file.filename=s.qcow2,node-name=#foo
info --image-opts driver=qcow2,file.filename=s.qcow2,force-share=on,read-only=off
info --image-opts driver=qcow2,file.filename=s.qcow2,file.aio=native
info --image-opts driver=qcow2,file.filename=s.qcow2,lazy-refcounts=x
info --image-opts driver=qcow2,file.filename=old.qcow2,lazy-refcounts=on
info --image-opts driver=qcow2,file.filename=s.qcow2,overlap-check=x
info --image-opts driver=qcow2,file.filename=s.qcow2,overlap-check=all,overlap-check.template=none
info --image-opts driver=qcow2,file.filename=s.qcow2,cache-size=1M,l2-cache-size=2M
info --image-opts driver=qcow2,file.filename=s.qcow2,cache-size=1M,l2-cache-size=512k,refcount-cache-size=600k
info --image-opts driver=qcow2,file.filename=s.qcow2,l2-cache-entry-size=100
info --image-opts driver=qcow2,file.filename=s.qcow2,cache-clean-interval=99999999999
info --image-opts driver=qcow2,file.filename=s.qcow2,encrypt.format=luks
info --image-opts driver=preallocate,prealloc-align=1000,file.filename=a.raw
info json:
info json:[]
info json:{}
info json:{"driver":"qcow2","file.filename":"s.qcow2"
info json:{driver:qcow2}
info json:{"driver":"qcow2",}
info json:{1:2}
info json:{"driver":"raw"}x
info json:{"driver":"qcow2","driver":"raw"}
info json:{"driver":"qcow
info json:{"driver":[1,2
info json:{"driver":-}
info json:{"driver":01}
info json:{"driver":1}
info json:{"driver":"raw","file":["a"]}
info json:{"driver":"raw","file":{}}
info json:{"driver":"raw","file":{"driver":"file","filename":5}}
info json:{"driver":"raw","file.filename":"a.raw","x":{}}
info json:{"driver":"file","filename":""}
info json:{"driver":"null-co","latency-ns":-1}
info json:{"driver":"copy-on-read","file":{"driver":"qcow2","file.filename":"s.qcow2"}}
info json:{"driver":"compress","file":{"driver":"raw","file.filename":"a.raw"}}
info -f compress s.qcow2
info -f null-co s.qcow2
info null-co:
info foo:bar
info qcow2:a.raw
info blkverify:a.raw
info blkverify:a.raw:nofile
map lost.qcow2
map --image-opts driver=qcow2,file.filename=o.qcow2,backing.driver=nope
map --image-opts driver=qcow2,file.filename=o.qcow2,backing.foo=1
map --image-opts driver=qcow2,file.filename=o.qcow2,backing=foo
map --image-opts driver=qcow2,file.filename=o.qcow2,backing.driver=null-co
map json:{"driver":"raw","file.filename":"a.raw","backing.driver":"raw"}
check json:{"driver":"compress","file":{"driver":"qcow2","file.filename":"s.qcow2"}}
compare --image-opts driver=qcow2,file.filename=s.qcow2 foo
compare --image-opts -F qcow2 driver=qcow2,file.filename=s.qcow2 foo
convert --target-image-opts s.qcow2 driver=raw,file.filename=n.raw
convert -n --target-image-opts -O raw s.qcow2 driver=raw,file.filename=a.raw
convert -O qcow2 s.qcow2 json:{"driver":"file","filename":"n.qcow2"}
convert -O raw s.qcow2 null-co://
create -f qcow2 json:{"driver":"file"} 1M
create -f qcow2 -b json:{"driver":"raw" -F raw n.qcow2
create -f qcow2 -b json:{"driver":"raw","file.filename":"nofile"} -F raw n.qcow2
dd if=a.raw of=null-co://
resize --image-opts driver=raw,offset=64k,size=64k,file.filename=a.raw 128k
resize --image-opts driver=qcow2,file.filename=s.qcow2,read-only=on 2M
snapshot --image-opts -c x driver=qcow2,file.filename=s.qcow2,force-share=on
`),
  )('%s', async (line) => {
    expect((await sides.same(...words(line))).status).not.toBe(0);
  });
});

describe('io', () => {
  it.each([
    [
      ['--image-opts', 'driver=qcow2,file.filename=s.qcow2'],
      ['length', 'read -P 5 0 64k'],
    ],
    [['--image-opts', 'driver=qcow2,file.filename=nofile'], []],
    [['--image-opts', '-f', 'qcow2', 'driver=qcow2'], []],
    [['--image-opts', 'foo'], []],
    [[], ['open -o driver=qcow2 -o file.filename=s.qcow2', 'length']],
    [[], ['open -o driver=qcow2,foo s.qcow2', 'open -o driver=qcow2,file.filename=a s.qcow2', 'open -o x=1', 'open -C -r s.qcow2']],
    [
      ['-d', 'ignore', '--image-opts', 'driver=qcow2,file.filename=s.qcow2,discard=unmap'],
      ['discard 0 64k', 'read -P 0 0 64k'],
    ],
    [
      ['--image-opts', 'driver=qcow2,file.filename=s.qcow2,discard=ignore'],
      ['discard 128k 64k', 'read -P 5 128k 64k'],
    ],
    [
      ['--image-opts', 'driver=qcow2,file.filename=s.qcow2,detect-zeroes=on'],
      ['write -P 0 192k 64k', 'map'],
    ],
    [
      ['--image-opts', 'driver=raw,offset=64k,size=64k,file.filename=a.raw'],
      ['write -P 3 0 64k', 'write 60k 8k', 'read 60k 8k', 'truncate 1M', 'map'],
    ],
    [
      ['-f', 'raw', 'blkverify:a.raw:s.qcow2'],
      ['write -P 1 0 8k', 'read 0 8k', 'read 8k 120k', 'length'],
    ],
    [['-C', '-r', 's.qcow2'], []],
    [
      ['-s', '-C', 'o.qcow2'],
      ['read 0 1k', 'map'],
    ],
  ])('%j %j', async (args, commands) => {
    await sides.sameIo([...args, ...commands.flatMap((command) => ['-c', command])]);
  });
});

describe('layers write what QEMU writes', () => {
  it('copies on read, by -C and by a layer', async () => {
    for (const [image, args] of [
      ['one.qcow2', ['-C', 'one.qcow2']],
      ['two.qcow2', ['--image-opts', 'driver=copy-on-read,file.driver=qcow2,file.file.filename=two.qcow2']],
    ] as const) {
      sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 's.qcow2', '-F', 'qcow2', image);
      await sides.sameIo([...args, '-c', 'read 0 4k', '-c', 'read 250k 70k', '-c', 'read 899k 10k', '-c', 'map']);
      await sides.sameJson('map', '--output=json', image);
      await sides.same('check', image);
    }
  });

  it('compresses through a layer, also parts of clusters', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'z.qcow2', '1M');
    const image = 'driver=compress,file.driver=qcow2,file.file.filename=z.qcow2';
    const commands = [
      'write -P 1 0 64k',
      'write -P 2 70k 4k',
      'write -P 3 150k 250k',
      'write -z 256k 64k',
      'discard 0 64k',
      'write -P 4 990k 10k',
      'map',
    ];
    await sides.sameIo(['--image-opts', image, ...commands.flatMap((command) => ['-c', command])]);
    await sides.sameJson('map', '--output=json', 'z.qcow2');
    for (const side of [sides.ours, sides.theirs]) expect(sides.qemu('qemu-img', ['check', 'z.qcow2'], { side }).status).toBe(0);
    const across = sides.qemu('qemu-img', ['compare', 'ours/z.qcow2', 'theirs/z.qcow2'], { side: sides.top });
    expect(across.out).toBe('Images are identical.\n');
  });

  it('grows a file ahead and cuts it off again', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'p.qcow2', '8M');
    const image = 'driver=qcow2,file.driver=preallocate,file.prealloc-size=1M,file.file.filename=p.qcow2';
    await sides.sameIo(['--image-opts', image, '-c', 'write -P 1 64k 100k', '-c', 'write -P 2 3M 64k']);
    await sides.same('check', 'p.qcow2');
    const { out } = sides.qemu('qemu-img', ['compare', 'ours/p.qcow2', 'theirs/p.qcow2'], { side: sides.top });
    expect(out).toBe('Images are identical.\n');
    expect(statSync(join(sides.ours, 'p.qcow2')).size).toBe(statSync(join(sides.theirs, 'p.qcow2')).size);
  });

  it('ends at once where an image and its copy differ', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'v.qcow2', '1M');
    await sides.sameIo(['-f', 'raw', 'blkverify:a.raw:v.qcow2', '-c', 'read 512 4k', '-c', 'length']);
  });
});

describe('images made and copied by such names', () => {
  it.each([
    ['convert', '--image-opts', 'driver=raw,offset=128k,size=256k,file.filename=a.raw', '-O', 'qcow2', 'part.qcow2'],
    ['convert', '-n', '--target-image-opts', 'part.qcow2', 'driver=raw,offset=512k,file.filename=a.raw'],
    ['create', '-f', 'qcow2', '-b', 'json:{"driver":"raw","file.filename":"a.raw","size":"64k"}', '-F', 'raw', 'window.qcow2'],
    ['info', '--backing-chain', 'window.qcow2'],
    ['commit', '--image-opts', 'driver=qcow2,file.filename=j.qcow2'],
    ['rebase', '-b', 'json:{"driver":"raw","file.filename":"a.raw"}', '-F', 'raw', 'window.qcow2'],
    ['rebase', '--image-opts', '-u', '-b', 'a.raw', '-F', 'raw', 'driver=qcow2,file.filename=window.qcow2'],
    ['resize', '--image-opts', 'driver=qcow2,file.filename=window.qcow2', '2M'],
    ['resize', '--image-opts', 'driver=raw,offset=64k,file.filename=a.raw', '2M'],
    ['dd', '--image-opts', 'if=driver=qcow2,file.filename=s.qcow2', 'of=d.raw', 'bs=64k', 'count=3', 'skip=1'],
  ])('%s %s %s %s', async (...args) => {
    expect((await sides.same(...args)).status).toBe(0);
    for (const name of ['part.qcow2', 'a.raw', 'window.qcow2', 'd.raw'].filter((one) => existsSync(join(sides.theirs, one)))) {
      const compared = sides.qemu('qemu-img', ['compare', name, `../theirs/${name}`], { side: sides.ours });
      expect(compared.out, name).toBe('Images are identical.\n');
    }
  });
});
