/**
 * Image locks beside real QEMU. Whatever holds an image, qemu-io, qemu-storage-daemon or tabdisk, a command line of qemu-img and the same one of
 * tabdisk get the answer and the exit status that qemu-img gets where QEMU holds it.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { normal, Sides } from '../cli/harness.ts';
import { daemonHolds, type Holder, lockedBytes, processOfOursHolds, qemuIoHolds, tabdiskHolds } from './holders.ts';
import { launch } from './launcher.ts';

let sides: Sides;
let holders: Holder[];

beforeEach(() => {
  sides = new Sides();
  holders = [];
});

afterEach(async () => {
  for (const holder of holders) await holder.release();
  sides.remove();
});

/** Keeps a holder until the test ends. */
async function hold<T extends Holder>(holder: Promise<T>): Promise<T> {
  const held = await holder;
  holders.push(held);
  return held;
}

/** base.qcow2 < middle.qcow2 < top.qcow2; other.qcow2 alone; raw.img < onraw.qcow2; data.qcow2 with data.raw. With something in each. */
const IMAGES = [
  'qemu-img create -q -f qcow2 base.qcow2 1M',
  'qemu-io -c "write -P 1 64k 192k" base.qcow2',
  'qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 middle.qcow2',
  'qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2',
  'qemu-io -c "write -P 2 128k 192k" top.qcow2',
  'qemu-img bitmap --add base.qcow2 there',
  'qemu-img create -q -f qcow2 other.qcow2 1M',
  'qemu-img bitmap --add other.qcow2 here',
  'qemu-img create -q -f raw raw.img 1M',
  'qemu-img create -q -f raw zeros.img 1M',
  'qemu-io -f raw -c "write -P 3 0 1M" raw.img',
  'qemu-img create -q -f qcow2 -b raw.img -F raw onraw.qcow2',
  'qemu-img create -q -f luks --object secret,id=key,data=secret -o key-secret=key,iter-time=10 luks.img 1M',
  'qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 1M',
];

let shelf: string;

beforeAll(() => {
  shelf = mkdtempSync(join(tmpdir(), 'tabdisk-locks-'));
  for (const line of IMAGES) {
    const { status, stderr } = launch('sh', ['-c', line], { cwd: shelf });
    if (status !== 0) throw new Error(`qemu-img and qemu-io are needed for these tests: ${stderr}`);
  }
});

afterAll(() => rmSync(shelf, { recursive: true }));

function makeImages(): void {
  for (const folder of [sides.ours, sides.theirs]) cpSync(shelf, folder, { recursive: true });
}

const words = (line: string): string[] => line.split(' ');

/** Whoever writes base.qcow2 is in the way of all of these, or of none that says it does not mind. */
const BESIDE_A_WRITER = [
  'info base.qcow2',
  'info -U base.qcow2',
  'info --backing-chain top.qcow2',
  'info --backing-chain -U top.qcow2',
  'info middle.qcow2',
  'info --image-opts driver=qcow2,file.filename=base.qcow2,file.locking=off',
  'info --image-opts driver=qcow2,file.filename=base.qcow2,file.locking=on',
  'info json:{"driver":"qcow2","force-share":true,"file":{"driver":"file","filename":"base.qcow2"}}',
  'info -f raw base.qcow2',
  'check base.qcow2',
  'check -U base.qcow2',
  'check top.qcow2',
  'check -r all base.qcow2',
  'check -r leaks -U base.qcow2',
  'check -r all middle.qcow2',
  'map base.qcow2',
  'map -U base.qcow2',
  'map top.qcow2',
  'map -U --output=json top.qcow2',
  'map --image-opts driver=qcow2,force-share=on,file.filename=base.qcow2',
  'compare base.qcow2 base.qcow2',
  'compare -U base.qcow2 base.qcow2',
  'compare other.qcow2 top.qcow2',
  'compare -U top.qcow2 middle.qcow2',
  'measure -O qcow2 base.qcow2',
  'measure -U -O qcow2 base.qcow2',
  'measure -O raw top.qcow2',
  'bench -c 1 base.qcow2',
  'bench -U -c 1 base.qcow2',
  'bench -w -c 1 base.qcow2',
  'snapshot -l base.qcow2',
  'snapshot -l -U base.qcow2',
  'snapshot -c new base.qcow2',
  'snapshot -a new base.qcow2',
  'snapshot -d new base.qcow2',
  'snapshot -c new -U base.qcow2',
  'snapshot -c new middle.qcow2',
  'convert -O raw base.qcow2 out.raw',
  'convert -U -O raw base.qcow2 out.raw',
  'convert -O qcow2 top.qcow2 out.qcow2',
  'convert -O qcow2 other.qcow2 base.qcow2',
  'convert -O raw other.qcow2 base.qcow2',
  'convert -n -O qcow2 other.qcow2 base.qcow2',
  'convert -n -O raw other.qcow2 base.qcow2',
  'convert -n --target-image-opts other.qcow2 driver=qcow2,file.filename=base.qcow2',
  'dd if=base.qcow2 of=out.raw',
  'dd -U if=base.qcow2 of=out.raw',
  'dd if=other.qcow2 of=base.qcow2',
  'dd -O qcow2 if=other.qcow2 of=base.qcow2',
  'create -f qcow2 base.qcow2 2M',
  'create -f raw base.qcow2 2M',
  'create -f qcow2 -b base.qcow2 -F qcow2 new.qcow2',
  'create -f qcow2 -b top.qcow2 -F qcow2 new.qcow2 1M',
  'create -f qcow2 -u -b base.qcow2 -F qcow2 new.qcow2 1M',
  'resize base.qcow2 2M',
  'resize -f raw base.qcow2 2M',
  'resize top.qcow2 2M',
  'amend -o lazy_refcounts=on base.qcow2',
  'amend -o lazy_refcounts=on middle.qcow2',
  'bitmap --add base.qcow2 new',
  'bitmap --clear base.qcow2 there',
  'bitmap --merge there -b base.qcow2 -F qcow2 other.qcow2 here',
  'commit base.qcow2',
  'commit middle.qcow2',
  'commit -b base.qcow2 top.qcow2',
  'rebase -u -b base.qcow2 -F qcow2 base.qcow2',
  'rebase -u -b base.qcow2 -F qcow2 middle.qcow2',
  'rebase -b base.qcow2 -F qcow2 top.qcow2',
  'rebase -b base.qcow2 -F qcow2 other.qcow2',
];

/** Whoever reads base.qcow2 is in the way of those that write. */
const BESIDE_A_READER = [
  'info base.qcow2',
  'check base.qcow2',
  'check -r all base.qcow2',
  'map top.qcow2',
  'compare base.qcow2 middle.qcow2',
  'measure -O qcow2 top.qcow2',
  'snapshot -l base.qcow2',
  'snapshot -c new base.qcow2',
  'convert -O raw top.qcow2 out.raw',
  'convert -O qcow2 other.qcow2 base.qcow2',
  'convert -n -O raw other.qcow2 base.qcow2',
  'dd if=base.qcow2 of=out.raw',
  'dd if=other.qcow2 of=base.qcow2',
  'create -f qcow2 base.qcow2 2M',
  'create -f qcow2 -b base.qcow2 -F qcow2 new.qcow2',
  'resize base.qcow2 2M',
  'amend -o lazy_refcounts=on base.qcow2',
  'bitmap --add base.qcow2 new',
  'bench -c 1 base.qcow2',
  'bench -w -c 1 base.qcow2',
  'commit middle.qcow2',
  'commit -b base.qcow2 top.qcow2',
  'rebase -b base.qcow2 -F qcow2 top.qcow2',
];

/** A raw disk may have several writers, and is in the way of formats that want their file for themselves. */
const BESIDE_A_RAW_WRITER = [
  'info -f raw raw.img',
  'compare -f raw -F qcow2 raw.img other.qcow2',
  'convert -f raw -O qcow2 raw.img out.qcow2',
  'convert -U -f raw -O qcow2 raw.img out.qcow2',
  'convert -O qcow2 onraw.qcow2 out.qcow2',
  'convert -n -O raw other.qcow2 raw.img',
  'dd -f raw if=raw.img of=out.raw',
  'bench -f raw -c 1 raw.img',
  'bench -f raw -w -c 1 raw.img',
  'measure -O raw onraw.qcow2',
  'snapshot -c new onraw.qcow2',
  'resize -f raw raw.img 1M',
  'commit onraw.qcow2',
];

/** A data file may not be made longer or shorter by others than the image that has it. */
const BESIDE_A_DATA_FILE = [
  'info data.qcow2',
  'info -U data.qcow2',
  'map -U data.qcow2',
  'check data.qcow2',
  'create -f qcow2 -o data_file=data.raw new.qcow2 1M',
  'convert -O qcow2 -o data_file=data.raw other.qcow2 new.qcow2',
  'resize -f raw data.raw 2M',
  'create -f raw data.raw 2M',
  'convert -n -O raw other.qcow2 data.raw',
  'convert -f raw -O qcow2 data.raw out.qcow2',
  'bench -f raw -c 1 data.raw',
  'info --image-opts driver=qcow2,file.filename=data.qcow2,file.locking=off',
  'check --image-opts driver=qcow2,file.filename=data.qcow2,file.locking=off',
];

type Hold = (folder: string, args: readonly string[]) => Promise<Holder>;

/** Holds the image on both sides, by QEMU in QEMU's folder, and runs all lines by tabdisk in ours. */
async function sameBeside(byWhom: Hold, args: string, lines: readonly string[], run: 'tabdisk' | 'qemu-img' = 'tabdisk'): Promise<void> {
  makeImages();
  await hold(qemuIoHolds(sides.theirs, words(args)));
  await hold(byWhom(sides.ours, words(args)));
  if (run === 'tabdisk') return sides.sameBatch('qemu-img', lines.map(words));
  for (const line of lines) {
    const [ours, theirs] = [sides.ours, sides.theirs].map((side) => normal(sides.qemu('qemu-img', words(line), { side })));
    expect.soft(ours, line).toEqual(theirs);
  }
}

describe('a verb beside a program that has the image open', () => {
  it('qemu-io writes it', () => sameBeside(qemuIoHolds, 'base.qcow2', BESIDE_A_WRITER));
  it('qemu-io reads it', () => sameBeside(qemuIoHolds, '-r base.qcow2', BESIDE_A_READER));
  it('qemu-io writes a raw disk', () => sameBeside(qemuIoHolds, '-f raw raw.img', BESIDE_A_RAW_WRITER));
  it('qemu-io writes an image with a data file', () => sameBeside(qemuIoHolds, 'data.qcow2', BESIDE_A_DATA_FILE));
  it('tabdisk io writes an image with a data file', () => sameBeside(tabdiskHolds, 'data.qcow2', BESIDE_A_DATA_FILE));
  it('tabdisk io writes it', () => sameBeside(tabdiskHolds, 'base.qcow2', BESIDE_A_WRITER));
  it('tabdisk io reads it', () => sameBeside(tabdiskHolds, '-r base.qcow2', BESIDE_A_READER));
  it('tabdisk io writes a raw disk', () => sameBeside(tabdiskHolds, '-f raw raw.img', BESIDE_A_RAW_WRITER));
  it('tabdisk io writes an overlay, and reads what is below', () => sameBeside(tabdiskHolds, 'middle.qcow2', BESIDE_A_READER));
  it('tabdisk io writes it, and the verb is qemu-img', () => sameBeside(tabdiskHolds, 'base.qcow2', BESIDE_A_WRITER, 'qemu-img'));
  it('tabdisk io reads it, and the verb is qemu-img', () => sameBeside(tabdiskHolds, '-r base.qcow2', BESIDE_A_READER, 'qemu-img'));
  it('tabdisk io writes a raw disk, and the verb is qemu-img', () => sameBeside(tabdiskHolds, '-f raw raw.img', BESIDE_A_RAW_WRITER, 'qemu-img'));

  it('qemu-storage-daemon has it', async () => {
    makeImages();
    for (const folder of [sides.ours, sides.theirs])
      await hold(daemonHolds(folder, 'driver=qcow2,node-name=disk,file.driver=file,file.filename=base.qcow2'));
    await sides.sameBatch('qemu-img', BESIDE_A_WRITER.map(words));
    for (const args of ['base.qcow2', '-r base.qcow2', '-r -U base.qcow2', '-U base.qcow2', '-s base.qcow2', 'top.qcow2', '-f raw base.qcow2'])
      await sides.sameIo([...words(args), '-c', 'read 0 4k']);
  });

  it('no image that is refused is changed, emptied or removed', async () => {
    makeImages();
    await hold(qemuIoHolds(sides.ours, ['base.qcow2']));
    const open = readFileSync(join(sides.ours, 'base.qcow2'));
    for (const line of BESIDE_A_WRITER) await sides.tabdisk(words(line));
    expect(readFileSync(join(sides.ours, 'base.qcow2')).equals(open)).toBe(true);
    await Promise.all(holders.splice(0).map((holder) => holder.release()));
    expect(sides.qemu('qemu-img', ['check', 'base.qcow2'], { side: sides.ours }).status).toBe(0);
  });
});

/** What an image is opened as, by `io`. */
const OPENINGS = [
  'base.qcow2',
  '-r base.qcow2',
  '-U -r base.qcow2',
  '-s base.qcow2',
  '-C top.qcow2',
  'top.qcow2',
  '-r top.qcow2',
  '-f raw raw.img',
  '-r -f raw raw.img',
  '-f raw base.qcow2',
  '--image-opts driver=raw,offset=64k,size=512k,file.filename=raw.img',
  '-r --image-opts driver=raw,offset=64k,file.filename=raw.img',
  '--object secret,id=key,data=secret --image-opts driver=luks,key-secret=key,file.filename=luks.img',
  '--object secret,id=key,data=secret -r --image-opts driver=luks,key-secret=key,file.filename=luks.img',
  'onraw.qcow2',
  'data.qcow2',
  '-r data.qcow2',
  'blkdebug::base.qcow2',
  '-r blkdebug::base.qcow2',
  '-f raw blkdebug::raw.img',
  'blkverify:zeros.img:other.qcow2',
  '-r blkverify:zeros.img:other.qcow2',
  'blkverify:zeros.img:zeros.img',
  '-r -f raw blkverify:raw.img:raw.img',
  '-r --image-opts driver=qcow2,force-share=on,file.filename=base.qcow2',
  '-r --image-opts driver=qcow2,file.filename=base.qcow2,file.locking=off',
  '--image-opts driver=qcow2,file.filename=base.qcow2,file.locking=on',
  '--image-opts driver=qcow2,file.filename=top.qcow2,backing.driver=qcow2,backing.file.driver=file,backing.file.filename=middle.qcow2,backing.file.locking=off',
  '-r --image-opts driver=qcow2,force-share=on,file.filename=top.qcow2,backing.force-share=off',
  '--image-opts driver=blkdebug,image.driver=file,image.filename=raw.img',
  '--image-opts driver=blkdebug,take-child-perms.0=resize,unshare-child-perms.0=write,image.driver=file,image.filename=raw.img',
  '--image-opts driver=quorum,vote-threshold=1,children.0.driver=raw,children.0.file.filename=raw.img,children.1.file.filename=other.qcow2',
  '-r --image-opts driver=quorum,vote-threshold=1,children.0.driver=raw,children.0.file.filename=raw.img,children.1.file.filename=other.qcow2',
  '--image-opts driver=copy-on-read,file.driver=qcow2,file.file.filename=top.qcow2',
  '--image-opts driver=compress,file.driver=qcow2,file.file.filename=base.qcow2',
  '--image-opts driver=preallocate,file.filename=raw.img',
  '--object throttle-group,id=limits --image-opts driver=throttle,throttle-group=limits,file.filename=raw.img',
  '--image-opts driver=blklogwrites,file.filename=raw.img,log.filename=log',
];

const FILES = [
  'base.qcow2',
  'middle.qcow2',
  'top.qcow2',
  'other.qcow2',
  'raw.img',
  'zeros.img',
  'luks.img',
  'onraw.qcow2',
  'data.qcow2',
  'data.raw',
  'log',
];

describe('the bytes that are locked', () => {
  it('are the same, however an image is opened', async () => {
    makeImages();
    sides.put('log', '');
    const held = (folder: string) => Object.fromEntries(FILES.map((name) => [name, lockedBytes(join(folder, name))]));
    for (const args of OPENINGS) {
      const theirs = await qemuIoHolds(sides.theirs, words(args));
      const expected = held(sides.theirs);
      await theirs.release();
      const ours = await tabdiskHolds(sides.ours, words(args));
      expect.soft(held(sides.ours), args).toEqual(expected);
      await ours.release();
      expect.soft(Object.values(held(sides.ours)).flat(), args).toEqual([]);
    }
  });

  it('follow a reopening, which fails and leaves the image as it was where somebody else has it', async () => {
    makeImages();
    for (const [command, args] of [
      ['reopen -r', 'top.qcow2'],
      ['reopen -w', '-r top.qcow2'],
    ]) {
      const open = words(args as string);
      await sides.sameIo([...open, '-c', command as string, '-c', 'write 0 4k', '-c', 'read 0 4k']);
      for (const folder of [sides.ours, sides.theirs]) await hold(qemuIoHolds(folder, ['-r', 'top.qcow2'])).catch(() => undefined);
      await sides.sameIo([...open, '-c', command as string, '-c', 'read 0 4k']);
      await Promise.all(holders.splice(0).map((holder) => holder.release()));
    }
  });
});

describe('one file twice in one command', () => {
  it.each([
    'compare base.qcow2 base.qcow2',
    'compare top.qcow2 base.qcow2',
    'convert -O qcow2 base.qcow2 base.qcow2',
    'convert -n -O qcow2 base.qcow2 base.qcow2',
    'convert -O qcow2 top.qcow2 base.qcow2',
    'convert -O qcow2 base.qcow2 top.qcow2 out.qcow2',
    'convert -O qcow2 -B base.qcow2 -F qcow2 top.qcow2 out.qcow2',
    'convert -f raw -O raw raw.img raw.img',
    'convert -n -O qcow2 base.qcow2 middle.qcow2',
    'dd if=base.qcow2 of=base.qcow2',
    'dd if=top.qcow2 of=middle.qcow2',
    'rebase -b base.qcow2 -F qcow2 top.qcow2',
    'rebase -b middle.qcow2 -F qcow2 top.qcow2',
    'rebase -b top.qcow2 -F qcow2 top.qcow2',
    'rebase -u -b top.qcow2 -F qcow2 middle.qcow2',
    'bitmap --merge there -b base.qcow2 -F qcow2 base.qcow2 there',
    'bitmap --merge there -b base.qcow2 -F qcow2 other.qcow2 here',
    'commit top.qcow2',
    'commit -b base.qcow2 top.qcow2',
    'commit -d middle.qcow2',
  ])('%s', async (line) => {
    makeImages();
    await sides.same(...words(line));
  });

  it('a quorum, a verified copy and a log over one file', async () => {
    makeImages();
    for (const args of [
      '--image-opts driver=quorum,vote-threshold=1,children.0.driver=raw,children.0.file.filename=raw.img,children.1.driver=raw,children.1.file.filename=raw.img',
      '-r --image-opts driver=quorum,vote-threshold=1,children.0.file.filename=base.qcow2,children.1.file.filename=base.qcow2',
      '--image-opts driver=blkverify,raw.driver=file,raw.filename=raw.img,test.driver=raw,test.file.filename=raw.img',
      '--image-opts driver=blklogwrites,file.filename=raw.img,log.filename=raw.img',
    ])
      await sides.sameIo([...words(args), '-c', 'read 0 4k']);
  });
});

describe('processes', () => {
  it('two of tabdisk refuse each other, and one that is killed leaves no lock', async () => {
    makeImages();
    const image = join(sides.ours, 'base.qcow2');
    const holder = await processOfOursHolds(sides.ours, ['base.qcow2']);
    expect(lockedBytes(image)).toEqual([100, 101, 103, 201, 203]);
    expect(await sides.tabdisk(['snapshot', '-c', 'new', 'base.qcow2'])).toMatchObject({
      status: 1,
      err: `qemu-img: Could not open 'base.qcow2': Failed to get "write" lock\nIs another process using the image [base.qcow2]?\n`,
    });
    await expect(processOfOursHolds(sides.ours, ['base.qcow2'])).rejects.toThrow('Failed to get "write" lock');
    await holder.kill();
    expect(lockedBytes(image)).toEqual([]);
    expect(sides.qemu('qemu-io', ['-c', 'write 0 4k', 'base.qcow2'], { side: sides.ours }).status).toBe(0);
    expect((await sides.tabdisk(['snapshot', '-c', 'new', 'base.qcow2'])).status).toBe(0);
  });

  it('a QEMU that is killed leaves none either', async () => {
    makeImages();
    const holder = await qemuIoHolds(sides.ours, ['base.qcow2']);
    expect((await sides.tabdisk(['check', 'base.qcow2'])).status).toBe(1);
    await holder.kill();
    expect((await sides.tabdisk(['check', 'base.qcow2'])).status).toBe(0);
  });

  it('a running tabdisk goes on while others read with -U', async () => {
    makeImages();
    const holder = await hold(processOfOursHolds(sides.ours, ['base.qcow2']));
    for (const verb of ['info', 'map', 'check']) {
      const refused = spawnSync('qemu-img', [verb, 'base.qcow2'], { cwd: sides.ours, encoding: 'utf8' });
      expect(refused.stderr).toContain('Failed to get shared "write" lock');
      expect((await sides.tabdisk([verb, 'base.qcow2'])).err).toBe(refused.stderr);
      expect((await sides.tabdisk([verb, '-U', 'base.qcow2'])).status).toBe(0);
    }
    holder.tell('write -P 7 0 64k');
    await holder.release();
    holders = [];
    expect((await sides.tabdisk(['io', '-c', 'read -P 7 0 64k', 'base.qcow2'])).status).toBe(0);
  });
});
