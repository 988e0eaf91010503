/** Locks of files in Node: what storages in one process and real QEMU see of each other, and what is left where nothing can be locked. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runSync } from '../../src/base/io.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { LockedError, NOTHING, type NodeFileOptions, type NodeFileStorage, nodeFileStorage, READING, WRITING } from '../../src/storage/node-file.ts';
import { lockedBytes, qemuIoHolds } from '../oracle/holders.ts';

let folder: string;
let path: string;
let count = 0;
let open: NodeFileStorage[];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tabdisk-locks-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(() => {
  path = join(folder, `${++count}.img`);
  writeFileSync(path, 'contents');
  open = [];
});
afterEach(() => {
  for (const storage of open) runSync(storage.close());
});

/** Opens the file, to be closed at the end. */
function storage(options: NodeFileOptions = {}): NodeFileStorage {
  const one = nodeFileStorage(path, options);
  open.push(one);
  return one;
}

const locked = { kind: 'locked', field: 'locking' };

/** What opening answers. */
function refusal(options: NodeFileOptions): unknown {
  try {
    storage(options);
  } catch (error) {
    return error;
  }
  return undefined;
}

const WRITERS: NodeFileOptions[] = [{}, { create: 'if-missing' }, { create: 'truncate' }, { background: true }];

/** Runs with another PATH. */
function withPath<T>(folders: string, body: () => T): T {
  const before = process.env.PATH;
  process.env.PATH = folders;
  try {
    return body();
  } finally {
    process.env.PATH = before;
  }
}

/** The same rules, whoever takes the locks. `programs`: where programs are looked for. */
function rules(programs: string | undefined): void {
  const within = <T>(body: () => T): T => (programs === undefined ? body() : withPath(programs, body));

  it.each(WRITERS)('who writes has the file alone (%j)', (options) => {
    within(() => {
      const writer = storage(options);
      for (const other of [...WRITERS, { readOnly: true }]) expect(refusal(other)).toMatchObject(locked);
      runSync(writer.close());
      expect(refusal({})).toBeUndefined();
    });
  });

  it('readers share it, and keep writers away', () => {
    within(() => {
      const readers = [storage({ readOnly: true }), storage({ readOnly: true })];
      expect(refusal({})).toMatchObject(locked);
      for (const reader of readers) runSync(reader.close());
      expect(refusal({})).toBeUndefined();
    });
  });

  it('forceShare and locking: off read beside a writer', () => {
    within(() => {
      storage();
      expect(refusal({ readOnly: true, forceShare: true })).toBeUndefined();
      expect(refusal({ readOnly: true, locking: 'off' })).toBeUndefined();
      expect(refusal({ locking: 'off' })).toBeUndefined();
    });
  });

  it('a file that is in use is not emptied', () => {
    within(() => {
      storage({ readOnly: true });
      expect(refusal({ create: 'truncate' })).toMatchObject(locked);
    });
    expect(readFileSync(open[0]?.name ?? '', 'utf8')).toBe('contents');
  });

  it('what is taken may change, and stays as it was where that is refused', () => {
    within(() => {
      const one = storage({ permissions: NOTHING });
      const other = storage({ permissions: NOTHING });
      runSync(one.permit(WRITING));
      expect(() => runSync(other.permit(READING))).toThrow(LockedError);
      runSync(one.permit(READING));
      runSync(other.permit(READING));
      expect(() => runSync(one.permit(WRITING))).toThrow(LockedError);
      runSync(other.permit(NOTHING));
      runSync(one.permit(WRITING));
    });
  });

  it('QEMU that has the file is seen', async () => {
    const holder = await qemuIoHolds(folder, ['-r', '-f', 'qcow2', await image()]);
    const name = join(folder, 'image.qcow2');
    within(() => {
      expect(() => nodeFileStorage(name)).toThrow('in use');
      runSync(nodeFileStorage(name, { readOnly: true }).close());
    });
    await holder.release();
    within(() => runSync(nodeFileStorage(name).close()));
  });
}

async function image(): Promise<string> {
  const name = join(folder, 'image.qcow2');
  await (await createDisk(nodeFileStorage(name, { create: 'truncate' }), { format: 'qcow2', size: 1 << 20 })).close();
  return name;
}

describe('with the means of this system', () => {
  rules(undefined);

  it('QEMU sees what is held, until it is closed', async () => {
    const name = await image();
    const disk = await openDisk(nodeFileStorage(name), { format: 'qcow2' });
    expect(lockedBytes(name)).toEqual([100, 101, 103, 201, 203]);
    const check = () => spawnSync('qemu-img', ['check', name], { encoding: 'utf8' });
    expect(check()).toMatchObject({ status: 1, stderr: expect.stringContaining('Failed to get shared "write" lock') });
    await disk.close();
    expect(lockedBytes(name)).toEqual([]);
    expect(check().status).toBe(0);
    const reading = await openDisk(nodeFileStorage(name, { readOnly: true }));
    expect(lockedBytes(name)).toEqual([100, 201, 203]);
    await reading.close();
  });

  it('the error says which file, which lock and what to do, and crosses a worker', () => {
    storage();
    const error = refusal({ readOnly: true }) as LockedError;
    expect(error).toBeInstanceOf(LockedError);
    expect(error.message).toContain(path);
    expect(error.message).toMatch(/shared "write" lock.*close it there.*forceShare/);
    expect(DiskError.from(error.toJSON())).toMatchObject(locked);
    expect(refusal({})).toMatchObject({ lock: '"write"', path });
  });

  it('a byte that another program has for itself alone is in use, too', async () => {
    const script = `open(F, '+<', '${path}'); my $lock = pack('s s x4 q q l x4', 1, 0, 101, 1, 0); fcntl(F, 37, $lock); $| = 1; print "ok"; <STDIN>`;
    const other = spawn('perl', ['-e', script]);
    await new Promise((resolve) => other.stdout.once('data', resolve));
    expect(refusal({})).toMatchObject(locked);
    other.stdin.end();
    await new Promise((resolve) => other.once('close', resolve));
    expect(refusal({})).toBeUndefined();
  });

  it('locking: on is as good as auto', () => {
    storage({ locking: 'on' });
    expect(refusal({ locking: 'on' })).toMatchObject(locked);
  });

  it('forceShare is for reading', () => {
    expect(refusal({ forceShare: true })).toMatchObject({ kind: 'refused', field: 'force-share' });
  });
});

describe('with python3 alone', () => {
  const bin = mkdtempSync(join(tmpdir(), 'tabdisk-bin-'));
  symlinkSync('/usr/bin/python3', join(bin, 'python3'));
  afterAll(() => rmSync(bin, { recursive: true }));
  rules(bin);

  it('the bytes are locked', () => {
    withPath(bin, () => storage());
    expect(lockedBytes(path)).toEqual([100, 101, 103, 201, 203]);
  });
});

describe('where nothing can be locked', () => {
  const nowhere = join(tmpdir(), 'tabdisk-nowhere');
  mkdirSync(nowhere, { recursive: true });
  rules(nowhere);

  it('locking: on says so', () => {
    expect(withPath(nowhere, () => refusal({ locking: 'on' }))).toMatchObject({ kind: 'unsupported', field: 'locking' });
  });
});
