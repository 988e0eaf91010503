/**
 * The events that an image tells a debugger of, beside those of the real qemu-io. Each case names QEMU's events for some requests; a rules file
 * made of them has QEMU itself check that they are these, in this order and no others: every event leads from one state to the next, any other
 * event into a state that nothing leads out of, and in the last state a write fails. Ours are recorded, and must be the same but for:
 *
 * - `deferred`: a new L2 table, its count and the L1 entry that points at it are written by the flush, not with the request: nothing
 *   points at what is not durable (metadata.ts), and a new table and its data cost one flush together.
 * - `frees`: clusters are given up once no table on disk points at them any more, so behind the L2 tables of the flush.
 * - `around`: what lies around a write in a new cluster goes out in one write with it, also where it reads as zero: QEMU zeroes the cluster first.
 * - `bytes first`: the entry of a compressed cluster changes when its bytes are written, so that a failed write leaves the old contents.
 * - `read first`: a shared L2 table is read before its copy gets a place, which is not to be given back then if that fails.
 * - `uncovered`: what a growth of the disk would show, as machine state, is given up first.
 * - `together`: a refcount block for which the table must grow is written with those that count the new table.
 * - `at once`: snapshots change tables, counts and the header in one switch (table-switch.ts), which QEMU changes one by one in place.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DEBUG_EVENTS } from '../../src/base/debug-events.ts';
import { type Disk, openDisk, parseSize } from '../../src/index.ts';
import { BlkdebugStorage } from '../../src/layers/blkdebug.ts';
import { nodeFileStorage } from '../../src/storage/node-file.ts';
import { qemuImg, qemuIo, requireClean } from './qemu.ts';

const folder = mkdtempSync(join(tmpdir(), 'tabdisk-events-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Shorthands: a write to the file; taking space in a refcount block that is there; writing changed refcount blocks and L2 tables. */
const SHORT: Readonly<Record<string, string>> = {
  W: 'pwritev pwritev_done',
  Z: 'pwritev_zero pwritev_done',
  count: 'refblock_alloc refblock_load',
  counts: 'refblock_update_part W',
  tables: 'l2_update W',
  alloc: 'cluster_alloc count',
  free: 'cluster_free count',
};

const spelled = (events: string): string[] =>
  events.split(/\s+/).flatMap((word) => (word === '' ? [] : SHORT[word] === undefined ? [word] : spelled(SHORT[word])));

interface Case {
  readonly name: string;
  /** Default: 16 MiB. */
  readonly size?: string;
  /** How the image is made, and what is in it already. */
  readonly create?: readonly string[];
  readonly before?: readonly string[];
  readonly snapshot?: boolean;
  readonly requests: readonly string[];
  readonly qemu: string;
  /** If they are others, why, and which. */
  readonly ours?: { readonly why: string; readonly events: string };
  /** Where there is something at the end that can be overwritten in place; the start of the disk. */
  readonly probe?: string;
}

const WRITTEN = ['write 0 256k', 'flush'];

const CASES: readonly Case[] = [
  {
    name: 'the first write',
    requests: ['write 0 64k', 'flush'],
    qemu: 'reftable_load alloc counts l2_alloc_write tables l1_update W alloc write_aio W flush_to_os counts tables flush_to_disk',
    ours: {
      why: 'deferred',
      events: 'reftable_load alloc l2_alloc_write alloc write_aio W flush_to_os counts tables l1_update W flush_to_disk',
    },
  },
  {
    name: 'more writes under the same table',
    before: WRITTEN,
    requests: ['write 512k 64k', 'write 640k 128k', 'flush'],
    qemu: 'reftable_load l2_load alloc write_aio W alloc write_aio W flush_to_os counts tables flush_to_disk',
  },
  {
    name: 'a write over what is there',
    before: WRITTEN,
    requests: ['write 5k 1k', 'write 64k 128k', 'flush'],
    qemu: 'reftable_load l2_load write_aio W write_aio W flush_to_os flush_to_disk',
  },
  {
    name: 'a part of a new cluster',
    before: WRITTEN,
    requests: ['write 1025k 4k', 'flush'],
    qemu: 'reftable_load l2_load alloc cluster_alloc_space Z write_aio W flush_to_os counts tables flush_to_disk',
    ours: {
      why: 'around',
      events: 'reftable_load l2_load alloc cow_read write_aio cow_write W flush_to_os counts tables flush_to_disk',
    },
  },
  {
    name: 'a part of a cluster that a snapshot has too',
    before: WRITTEN,
    snapshot: true,
    requests: ['write 4k 4k', 'flush'],
    qemu: `reftable_load alloc counts l2_alloc_cow_read l2_load l2_alloc_write tables l1_update W free alloc cow_read read_aio write_aio cow_write W
      cluster_free counts count flush_to_os tables counts flush_to_disk`,
    ours: {
      why: 'read first, deferred, frees',
      events: `reftable_load l2_alloc_cow_read l2_load alloc l2_alloc_write alloc cow_read read_aio write_aio cow_write W
        flush_to_os counts tables l1_update W free counts flush_to_disk`,
    },
  },
  {
    name: 'a long part of a cluster that a snapshot has too, the table being copied already',
    before: WRITTEN,
    snapshot: true,
    requests: ['write 64k 64k', 'flush', 'write 4k 32k', 'flush'],
    qemu: `reftable_load alloc counts l2_alloc_cow_read l2_load l2_alloc_write tables l1_update W free alloc write_aio W
      cluster_free counts count flush_to_os tables counts flush_to_disk
      alloc cow_read read_aio cow_read read_aio write_aio cow_write W cluster_free counts count flush_to_os tables counts flush_to_disk`,
    ours: {
      why: 'read first, deferred, frees',
      events: `reftable_load l2_alloc_cow_read l2_load alloc l2_alloc_write alloc write_aio W
        flush_to_os counts tables l1_update W free free counts flush_to_disk
        alloc cow_read read_aio cow_read read_aio write_aio cow_write W flush_to_os counts tables free counts flush_to_disk`,
    },
  },
  {
    name: 'a compressed write, read again and written over',
    before: WRITTEN,
    requests: ['write -c 2M 64k', 'flush', 'read 2M 64k', 'write 2M 64k', 'flush'],
    qemu: `reftable_load l2_load cluster_alloc_bytes count l2_update_compressed write_compressed W flush_to_os counts tables flush_to_disk
      read_compressed alloc write_aio W cluster_free counts count flush_to_os tables counts flush_to_disk`,
    ours: {
      why: 'bytes first, frees',
      events: `reftable_load l2_load cluster_alloc_bytes count write_compressed W l2_update_compressed flush_to_os counts tables flush_to_disk
        read_compressed alloc write_aio W flush_to_os counts tables free counts flush_to_disk`,
    },
  },
  {
    name: 'a discard',
    before: WRITTEN,
    requests: ['discard 64k 64k', 'flush', 'read 64k 64k'],
    qemu: 'reftable_load l2_load free flush_to_os tables counts flush_to_disk',
    ours: { why: 'frees', events: 'reftable_load l2_load flush_to_os tables free counts flush_to_disk' },
  },
  {
    name: 'zeros that keep their place',
    before: WRITTEN,
    requests: ['write -z 64k 64k', 'flush', 'read 64k 64k', 'write 64k 64k', 'flush'],
    qemu: 'reftable_load l2_load flush_to_os tables flush_to_disk write_aio W flush_to_os tables flush_to_disk',
  },
  {
    name: 'reads of what is there and what is not',
    before: WRITTEN,
    requests: ['read 0 128k', 'read 1M 64k'],
    qemu: 'reftable_load l2_load read_aio',
  },
  {
    name: 'machine state',
    before: WRITTEN,
    requests: ['write -b 0 64k', 'read -b 0 64k'],
    qemu: `reftable_load vmstate_save l1_grow_alloc_table alloc counts l1_grow_write_table W l1_grow_activate_table W free
      alloc counts l2_alloc_write tables l1_update W alloc write_aio W vmstate_load read_aio`,
    ours: {
      why: 'deferred, frees',
      events: `reftable_load vmstate_save l1_grow_alloc_table alloc counts l1_grow_write_table W l1_grow_activate_table W free counts
        alloc l2_alloc_write alloc write_aio W vmstate_load read_aio`,
    },
  },
  {
    name: 'a larger L1 table',
    before: WRITTEN,
    requests: ['truncate 2G', 'flush'],
    qemu: `reftable_load l1_grow_alloc_table alloc counts l1_grow_write_table W l1_grow_activate_table W free W counts flush_to_os flush_to_disk`,
    ours: {
      why: 'uncovered, frees',
      events: `reftable_load l2_load tables l1_grow_alloc_table alloc counts l1_grow_write_table W l1_grow_activate_table W free counts W flush_to_os flush_to_disk`,
    },
  },
  {
    name: 'a refcount block more',
    create: ['-o', 'cluster_size=512,refcount_bits=64'],
    requests: ['write 0 32k', 'flush'],
    qemu: `reftable_load alloc counts l2_alloc_write tables l1_update W alloc refblock_alloc refblock_alloc_write counts counts
      refblock_alloc_hookup W count count count write_aio W flush_to_os counts counts tables flush_to_disk`,
    ours: {
      why: 'deferred',
      events: `reftable_load alloc l2_alloc_write alloc refblock_alloc refblock_alloc_write counts counts
        refblock_alloc_hookup W count count count write_aio W flush_to_os counts counts tables l1_update W flush_to_disk`,
    },
  },
  {
    name: 'a larger refcount table',
    create: ['-o', 'cluster_size=512,refcount_bits=64'],
    before: ['write 0 1952k', 'flush'],
    requests: ['write 1952k 32k', 'flush'],
    qemu: `reftable_load alloc counts l2_alloc_write tables l1_update W alloc refblock_alloc refblock_alloc_write counts counts
      reftable_grow refblock_alloc_write_blocks counts counts refblock_alloc_write_table W refblock_alloc_switch_table W
      cluster_free count refblock_load count counts counts count count write_aio W flush_to_os counts counts tables flush_to_disk`,
    ours: {
      why: 'deferred, frees, together',
      events: `reftable_load alloc l2_alloc_write alloc refblock_alloc
        reftable_grow refblock_alloc_write_blocks counts counts counts refblock_alloc_write_table W refblock_alloc_switch_table W
        count count count write_aio W flush_to_os counts counts tables l1_update W free counts flush_to_disk`,
    },
  },
  {
    name: 'an overlay: reads through it, and a part of a cluster',
    create: ['-b', 'base.qcow2', '-F', 'qcow2'],
    requests: ['read 0 64k', 'read 1M 64k', 'write 4k 4k', 'flush'],
    qemu: `reftable_load read_backing_aio read_backing_aio alloc counts l2_alloc_write tables l1_update W
      alloc cow_read read_backing_aio write_aio cow_write W flush_to_os counts tables flush_to_disk`,
    ours: {
      why: 'deferred',
      events: `reftable_load read_backing_aio read_backing_aio alloc l2_alloc_write
        alloc cow_read read_backing_aio write_aio cow_write W flush_to_os counts tables l1_update W flush_to_disk`,
    },
  },
];

/** Rules by which QEMU checks its own events: see the top of this file. Behind them `strike` fails, `pass` may come before it. */
function rulesFor(events: readonly string[], { strike, pass = '' }: { strike: string; pass?: string }): string {
  const lost = 1_000_000;
  const rules = events.flatMap((expected, i) =>
    DEBUG_EVENTS.map((event) => ({ event, state: i + 1, next: event === expected ? i + 2 : lost })).filter(({ event }) => event !== 'none'),
  );
  const end = events.length + 1;
  const more = DEBUG_EVENTS.filter((event) => ![strike, pass, 'none'].includes(event)).map((event) => ({ event, state: end, next: lost }));
  const states = [...rules, ...more].map(({ event, state, next }) => `[set-state]\nevent = "${event}"\nstate = "${state}"\nnew_state = "${next}"\n`);
  return `[inject-error]\nevent = "${strike}"\nstate = "${end}"\nerrno = "28"\nonce = "on"\n${states.join('')}`;
}

/** An image for one side. */
function prepare(one: Case, name: string): string {
  const path = join(folder, name);
  qemuImg('create', '-q', '-f', 'qcow2', ...(one.create ?? []), path, one.size ?? '16M');
  if (one.before) qemuIo(path, 'qcow2', one.before);
  if (one.snapshot) qemuImg('snapshot', '-c', 's', path);
  return path;
}

/** What our image tells of, up to the end of the requests. */
async function recorded(path: string, requests: readonly string[], { format = 'qcow2', align = 0 } = {}): Promise<string[]> {
  const events: string[] = [];
  const storage = new BlkdebugStorage(nodeFileStorage(path), [], { limits: { align } });
  const { debugEvent } = storage;
  Object.assign(storage, {
    *debugEvent(event: Parameters<typeof debugEvent>[0]) {
      events.push(event);
      yield* debugEvent(event);
    },
  });
  const disk = await openDisk(storage, { format, resolve: ({ name }) => nodeFileStorage(join(folder, name), { readOnly: true }) });
  for (const request of requests) await perform(disk, request.split(' '));
  const told = [...events];
  await disk.close();
  return told;
}

async function perform(disk: Disk, [verb, ...words]: readonly string[]): Promise<void> {
  const [offset = 0, length = 0] = words.filter((word) => /^\d/.test(word)).map(parseSize);
  const bytes = new Uint8Array(length).fill(0xcd);
  const how = words[0];
  if (verb === 'flush') await disk.flush();
  else if (verb === 'discard') await disk.discard(offset, length);
  else if (verb === 'truncate') await disk.resize(offset);
  else if (verb === 'snapshot') await (how === '-c' ? disk.snapshots.create({ name: 't' }) : disk.snapshots.delete('1'));
  else if (verb === 'read') await (how === '-b' ? disk.readVmState(offset, length) : disk.read(offset, bytes));
  else if (how === '-z') await disk.zero(offset, length);
  else if (how === '-c') await disk.writeCompressed(offset, bytes);
  else if (how === '-b') await disk.writeVmState(offset, bytes);
  else await disk.write(offset, bytes);
}

describe('events in the order in which QEMU has them', () => {
  it.each(CASES.map((one, i) => ({ ...one, i })))('$name', async (one) => {
    if (one.create?.includes('base.qcow2')) prepare({ ...one, create: [], before: WRITTEN }, 'base.qcow2');
    const path = prepare(one, `${one.i}.qcow2`);
    const theirs = join(folder, `${one.i}-qemu.qcow2`);
    copyFileSync(path, theirs);

    const expected = spelled(one.qemu);
    const rules = join(folder, `${one.i}.conf`);
    writeFileSync(rules, rulesFor(expected, { strike: 'write_aio', pass: 'l2_load' }));
    const commands = [...one.requests, one.probe ?? 'write 4k 512'].flatMap((request) => ['-c', request]);
    const { stdout, stderr } = spawnSync('qemu-io', ['-t', 'writeback', '-d', 'unmap', '-f', 'qcow2', ...commands, `blkdebug:${rules}:${theirs}`], {
      encoding: 'utf8',
    });
    const failures = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('failed'));
    expect(failures, "QEMU's own events are these").toEqual(['write failed: No space left on device']);

    expect(await recorded(path, one.requests), one.ours?.why).toEqual(spelled(one.ours?.events ?? one.qemu));
    requireClean(path, one.name);
  });
});

interface VerbCase extends Omit<Case, 'requests' | 'qemu' | 'probe'> {
  /** Of qemu-img; the image's name comes last but for `last`. */
  readonly verb: readonly string[];
  readonly last?: string;
  /** The same for us. */
  readonly request: string;
  /** Up to the last write of the header, which then fails. */
  readonly qemu: string;
  readonly ours: { readonly why: string; readonly events: string };
}

const VERBS: readonly VerbCase[] = [
  {
    name: 'a snapshot is made',
    before: WRITTEN,
    verb: ['snapshot', '-c', 't'],
    request: 'snapshot -c',
    qemu: 'reftable_load alloc W l2_load count count count count count flush_to_os counts tables W alloc flush_to_os counts W W W W flush_to_os',
    ours: {
      why: 'at once',
      events: `reftable_load l2_load alloc W alloc W alloc W alloc W alloc alloc refblock_update W reftable_update W counts W free free free counts`,
    },
  },
  {
    name: 'a snapshot is deleted',
    before: WRITTEN,
    snapshot: true,
    verb: ['snapshot', '-d', 's'],
    request: 'snapshot -d',
    qemu: `reftable_load cluster_alloc flush_to_os flush_to_os W free l2_load count count count count count flush_to_os tables counts free
      flush_to_os counts`,
    ours: {
      why: 'at once',
      events: `reftable_load l2_load alloc W alloc W alloc alloc refblock_update W reftable_update W counts W free free free free free counts`,
    },
  },
  {
    name: 'the disk becomes shorter',
    size: '1G',
    before: ['write 0 64k', 'write 512M 64k', 'flush'],
    verb: ['resize', '-q', '--shrink'],
    last: '512M',
    request: 'truncate 512M',
    qemu: 'reftable_load l2_load free l1_shrink_write_table Z l1_shrink_free_l2_clusters free',
    ours: {
      why: 'deferred, frees',
      events: `reftable_load W l2_load tables free counts l1_shrink_write_table l1_shrink_free_l2_clusters l1_update W free counts`,
    },
  },
];

describe('events of changes to the whole image', () => {
  it.each(VERBS.map((one, i) => ({ ...one, i })))('$name', async (one) => {
    const path = prepare({ ...one, requests: [] }, `verb-${one.i}.qcow2`);
    const theirs = join(folder, `verb-${one.i}-qemu.qcow2`);
    copyFileSync(path, theirs);
    const rules = join(folder, `verb-${one.i}.conf`);
    writeFileSync(rules, rulesFor(spelled(one.qemu), { strike: 'pwritev' }));
    const { status, stderr } = spawnSync('qemu-img', [...one.verb, `blkdebug:${rules}:${theirs}`, ...(one.last ? [one.last] : [])], {
      encoding: 'utf8',
    });
    expect({ status, failed: /No space left on device/.test(stderr) }, "QEMU's own events are these").toEqual({ status: 1, failed: true });
    expect(await recorded(path, [one.request]), one.ours.why).toEqual(spelled(one.ours.events));
    requireClean(path, one.name);
  });

  it('a raw file on a medium of large blocks', async () => {
    const requests = ['write 4k 4k', 'write 5000 100', 'write 4000 200', 'write 100 9000', 'write 0 100', 'read 1 2', 'flush', 'write -z 16k 8k'];
    const both = 'pwritev_rmw_head pwritev_rmw_tail pwritev_rmw_after_head pwritev_rmw_after_tail W';
    const events = spelled(`write_aio W write_aio ${both} write_aio ${both}
      write_aio pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail W write_aio pwritev_rmw_tail pwritev_rmw_after_tail W
      read_aio flush_to_os flush_to_disk Z`);
    const rules = join(folder, 'raw.conf');
    writeFileSync(rules, rulesFor(events, { strike: 'write_aio' }));
    const path = join(folder, 'raw');
    writeFileSync(path, new Uint8Array(65536).fill(7));
    const commands = [...requests, 'write 4k 4k'].flatMap((request) => ['-c', request]);
    const image = `driver=raw,file.driver=blkdebug,file.align=4096,file.config=${rules},file.image.filename=${path}`;
    const { stdout } = spawnSync('qemu-io', ['-t', 'writeback', ...commands, '--image-opts', image], { encoding: 'utf8' });
    expect(stdout.split('\n').filter((line) => line.includes('failed'))).toEqual(['write failed: No space left on device']);
    expect(await recorded(path, requests, { format: 'raw', align: 4096 })).toEqual(events);
  });

  it('a list with two events the wrong way round is noticed', () => {
    const path = prepare({ name: '', requests: [], qemu: '' }, 'wrong.qcow2');
    const rules = join(folder, 'wrong.conf');
    const right = spelled('reftable_load alloc counts l2_alloc_write tables l1_update W alloc write_aio W');
    const write = () =>
      spawnSync('qemu-io', ['-t', 'writeback', '-c', 'write 0 64k', '-c', 'write 0 64k', `blkdebug:${rules}:${path}`], { encoding: 'utf8' }).stdout;
    const wrong = right.with(-1, 'write_aio').with(-3, 'pwritev_done');
    writeFileSync(rules, rulesFor(wrong, { strike: 'write_aio' }));
    expect(write()).not.toContain('failed');
    prepare({ name: '', requests: [], qemu: '' }, 'wrong.qcow2');
    writeFileSync(rules, rulesFor(right, { strike: 'write_aio' }));
    expect(write()).toContain('write failed: No space left on device');
  });
});
