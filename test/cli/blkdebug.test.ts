/** The debugging layer on the command line, beside the real programs: names, rules, errors in QEMU's words, and requests that stop and go on. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { normal, type Outcome, Sides } from './harness.ts';

const sides = new Sides();

/** Rules files by name. */
const RULES: Readonly<Record<string, string>> = {
  empty: '',
  once: '# one failure\n\n[inject-error]\nevent = "write_aio"\nerrno = "28"\nonce = "on"\nimmediately = "on"\n',
  named: '[inject-error "a"]\nevent = "read_aio"\nerrno = "13"\n',
  states:
    '[set-state]\nevent = "write_aio"\nstate = "1"\nnew_state = "2"\n\n[inject-error]\nevent = "write_aio"\nstate = "2"\nerrno = "4"\nonce = "on"\n',
  event: '[inject-error]\nevent = "foo"\n',
  noEvent: '[inject-error]\nerrno = "5"\n',
  unknown: '[inject-error]\nevent = "l2_load"\nbogus = "1"\n',
  group: '[bogus]\nevent = "l2_load"\n',
  noGroup: 'event = "l2_load"\n',
  unquoted: '[inject-error]\nevent = l2_load\n',
  tight: '[inject-error]\nevent="write_aio"\n',
  number: '[set-state]\nevent = "write_aio"\nnew_state = "x"\n',
  flag: '[inject-error]\nevent = "write_aio"\nonce = "perhaps"\n',
  ioType: '[inject-error]\nevent = "write_aio"\niotype = "bogus"\n',
  oldName: '[inject-error]\nevent = "l1_grow.alloc_table"\n',
};

beforeAll(() => {
  for (const [name, text] of Object.entries(RULES)) sides.put(`${name}.conf`, text);
  sides.put('notext', new Uint8Array(600));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'a.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -P 1 0 128k', 'a.qcow2');
});

afterAll(() => sides.remove());

const options = (more: string) => ['--image-opts', `driver=qcow2,file.driver=blkdebug,file.image.filename=a.qcow2,${more}`, '-c', 'read 0 64k'];

describe('how it is opened', () => {
  it('by a name, with rules in a file', async () => {
    await sides.sameBatch('qemu-io', [
      ...Object.keys(RULES).map((name) => ['-c', 'read 0 64k', '-c', 'read 64k 64k', `blkdebug:${name}.conf:a.qcow2`]),
      ...['blkdebug::a.qcow2', 'blkdebug:nofile:a.qcow2', 'blkdebug:a.qcow2', 'blkdebug::nofile', 'blkdebug:', 'blkdebug:::'].map((name) => [
        '-c',
        'length',
        name,
      ]),
    ]);
  });

  it('by options', async () => {
    const rule = 'file.inject-error.0.event=read_aio';
    await sides.sameBatch('qemu-io', [
      options('file.config=named.conf'),
      options(`${rule},file.inject-error.0.errno=28`),
      options(`${rule},file.inject-error.0.iotype=write`),
      options(`${rule},file.inject-error.0.sector=640`),
      options('file.inject-error.event=read_aio'),
      options('file.inject-error.0.event=none,file.inject-error.0.iotype=write'),
      options('file.inject-error.0.event=foo'),
      options('file.inject-error.0.errno=3'),
      options('file.inject-error.1.event=read_aio'),
      options(`${rule},file.inject-error.0.x=y`),
      options(`file.set-state.0.event=read_aio,file.set-state.0.new_state=q`),
      options('file.bogus.0.event=read_aio'),
      ...['align=511', 'align=0', 'align=1024', 'align=2147483648', 'max-transfer=100', 'max-transfer=4096', 'opt-write-zero=100'].map((one) =>
        options(`file.${one}`),
      ),
      ...['align=4096,file.opt-write-zero=1024', 'opt-write-zero=64k,file.max-write-zero=4k', 'align=4k,file.max-transfer=6k'].map((one) =>
        options(`file.${one}`),
      ),
      ...['opt-discard=64k,file.max-discard=4k', 'take-child-perms=1', 'take-child-perms.0=foo', 'unshare-child-perms.0=resize'].map((one) =>
        options(`file.${one}`),
      ),
      ['--image-opts', 'driver=blkdebug', '-c', 'length'],
      ['--image-opts', 'driver=blkdebug,image.filename=a.qcow2', '-c', 'read 0 4'],
      ['--image-opts', 'driver=blkdebug,image.driver=qcow2,image.file.filename=a.qcow2', '-c', 'length'],
      ['--image-opts', 'driver=blkdebug,image=x', '-c', 'length'],
      [
        'json:{"driver":"qcow2","file":{"driver":"blkdebug","image":{"driver":"file","filename":"a.qcow2"},"inject-error":[{"event":"read_aio","errno":30,"once":true}]}}',
        '-c',
        'read 0 4',
        '-c',
        'read 0 4',
      ],
    ]);
  });

  it('is shown by its name', async () => {
    await sides.sameBatch('qemu-img', [
      ['info', 'blkdebug:once.conf:a.qcow2'],
      ['info', 'blkdebug::a.qcow2'],
      ['info', '--image-opts', 'driver=qcow2,file.driver=blkdebug,file.image.filename=a.qcow2,file.align=512'],
      ['info', '--image-opts', 'driver=qcow2,file.driver=blkdebug,file.image.filename=a.qcow2,file.inject-error.0.event=write_aio'],
      ['info', '--image-opts', 'driver=blkdebug,image.driver=qcow2,image.file.filename=a.qcow2'],
      ['check', 'blkdebug::a.qcow2'],
      ['map', 'blkdebug::a.qcow2'],
    ]);
  });
});

/** Of requests under way at the same time, QEMU reports in the order in which its threads are done with them. */
function inOrder(outcome: Outcome) {
  const { out, err, status } = normal(outcome);
  const lines = out.split('\n');
  const isReport = (line: string) => /^(read|wrote) |ops; TIME/.test(line);
  return { events: lines.filter((line) => !isReport(line)), reports: lines.filter(isReport).sort(), err, status };
}

describe('requests that stop', () => {
  /** Each in an image of its own name, so that the outcomes do not hang together. */
  const scripts: readonly (readonly string[])[] = [
    ['break write_aio A', 'aio_write 0 64k', 'wait_break A', 'aio_write 64k 64k', 'resume A', 'aio_flush', 'read 0 64k'],
    ['break write_aio A', 'aio_write 0 64k', 'wait_break A', 'remove_break A', 'aio_flush'],
    ['break write_aio A', 'remove_break A', 'remove_break A', 'resume B', 'break foo X', 'aio_write 0 64k', 'aio_flush'],
    ['break write_aio A', 'break write_aio B', 'aio_write 0 64k', 'wait_break A', 'resume A', 'resume B', 'aio_flush'],
    ['break write_aio A', 'break write_aio A', 'aio_write 0 64k', 'aio_write 0 64k', 'wait_break A', 'resume A', 'resume A', 'resume A', 'aio_flush'],
    ['break write_aio A', 'break write_aio B', 'remove_break A', 'aio_write 0 64k', 'wait_break B', 'resume A', 'resume B', 'aio_flush'],
    ['break read_aio A', 'aio_read 0 64k', 'wait_break A', 'aio_read 64k 4k', 'resume A', 'aio_flush'],
    // Two writes into one new cluster: the second waits for the first.
    [
      'break write_aio A',
      'aio_write -P 3 512k 4k',
      'wait_break A',
      'aio_write -P 4 516k 4k',
      'resume A',
      'aio_flush',
      'read -P 3 512k 4k',
      'read -P 4 516k 4k',
    ],
    ['break cow_write A', 'aio_write -P 3 4k 4k', 'wait_break A', 'resume A', 'aio_flush', 'read -P 3 4k 4k', 'read -P 1 8k 4k'],
    ['break l2_load A', 'aio_read 0 4k', 'aio_read 4k 4k', 'resume A', 'aio_flush'],
    ['break l2_alloc_write A', 'aio_write 0 4k', 'wait_break A', 'resume A', 'aio_flush'],
    ['wait_break', 'resume', 'break x', 'remove_break', 'resume A'],
  ];

  it('go on when they are resumed', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 's.qcow2');
    for (const i of scripts.keys()) for (const side of [sides.ours, sides.theirs]) copyFileSync(join(side, 's.qcow2'), join(side, `s${i}.qcow2`));
    const loaded = (i: number) => (/l2_load|read_aio/.test(scripts[i]?.[0] ?? '') ? 'blkdebug::a.qcow2' : `blkdebug::s${i}.qcow2`);
    const lines = scripts.map((script, i) => ['-f', 'qcow2', ...script.flatMap((line) => ['-c', line]), loaded(i)]);
    const theirs = await sides.qemuBatch('qemu-io', lines);
    for (const [i, args] of lines.entries()) {
      const ours = await sides.tabdisk(['io', ...args], { program: 'qemu-io' });
      expect.soft(inOrder(ours), args.join(' ')).toEqual(inOrder(theirs[i] as Outcome));
    }
    await sides.sameBatch(
      'qemu-img',
      [...scripts.keys()].map((i) => ['compare', `s${i}.qcow2`, `../theirs/s${i}.qcow2`]),
    );
  });
});

describe('errors at the events of a write into a cluster that a snapshot has too', () => {
  /** Those that this write comes to. Not here: reftable_load (the image does not open), flush_to_disk (QEMU tells of it one flush later). */
  const EVENTS = [
    ...['cluster_alloc', 'cluster_free', 'cow_read', 'cow_write', 'flush_to_os', 'l1_update', 'l2_alloc_cow_read', 'l2_alloc_write', 'l2_load'],
    ...['l2_update', 'pwritev', 'pwritev_done', 'read_aio', 'refblock_alloc', 'refblock_load', 'refblock_update_part', 'write_aio'],
  ];

  it('strike where they strike in QEMU, and the write can be repeated', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'w.qcow2', '16M');
    sides.prepare('qemu-io', '-c', 'write -P 1 0 128k', 'w.qcow2');
    sides.prepare('qemu-img', 'snapshot', '-c', 's', 'w.qcow2');
    for (const [i, event] of EVENTS.entries()) {
      sides.put(`${event}.conf`, `[inject-error]\nevent = "${event}"\nerrno = "${i % 2 === 0 ? 5 : 28}"\nonce = "on"\n`);
      for (const side of [sides.ours, sides.theirs]) copyFileSync(join(side, 'w.qcow2'), join(side, `${event}.qcow2`));
    }
    const commands = ['write -P 2 4k 8k', 'read -P 1 0 4k', 'write -P 3 4k 8k', 'read -P 3 4k 8k', 'read -P 1 12k 116k'].flatMap((line) => [
      '-c',
      line,
    ]);
    await sides.sameBatch(
      'qemu-io',
      EVENTS.map((event) => [...commands, `blkdebug:${event}.conf:${event}.qcow2`]),
    );
    for (const event of EVENTS) {
      const { out, status } = sides.qemu('qemu-img', ['check', `${event}.qcow2`], { side: sides.ours });
      expect.soft({ status, out }, event).toMatchObject({ status: 0, out: expect.stringContaining('No errors were found') });
    }
  });
});

describe('as a layer', () => {
  it('over an image whose reads are copied', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'copied.qcow2');
    sides.put('cor.conf', '[inject-error]\nevent = "cor_write"\nerrno = "28"\nonce = "on"\n');
    const image = ['--image-opts', 'driver=blkdebug,config=cor.conf,image.driver=qcow2,image.file.filename=copied.qcow2'];
    await sides.sameIo(['-C', '-c', 'read 0 64k', '-c', 'read -P 1 0 64k', '-c', 'read 0 64k', '-c', 'map', ...image]);
    await sides.same('map', 'copied.qcow2');
  });

  it('with the limits of a medium', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', 'limited.qcow2', '1M');
    const limits = 'align=4k,max-transfer=64k,opt-write-zero=16k,max-write-zero=48k,opt-discard=16k,max-discard=64k';
    const image = ['--image-opts', ['driver=qcow2,file.driver=blkdebug,file.image.filename=limited.qcow2', ...limits.split(',')].join(',file.')];
    const requests = [
      'write -P 1 0 500k',
      'write -P 2 1000 131073',
      'write -z 20k 100k',
      'discard 200k 100k',
      'write -z -u 310001 50000',
      'truncate 2M',
    ];
    const reads = [
      'read -P 1 0 1000',
      'read -P 2 1000 19480',
      'read -P 0 20k 100k',
      'read -P 0 200k 100k',
      'read -P 0 310001 50000',
      'read -P 0 500k 500k',
    ];
    await sides.sameIo([...[...requests, 'flush', ...reads].flatMap((line) => ['-c', line]), ...image]);
    await sides.same('compare', 'limited.qcow2', '../theirs/limited.qcow2');
    await sides.same('check', 'limited.qcow2');
  });
});
