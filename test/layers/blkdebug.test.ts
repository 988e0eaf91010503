/** The debugging layer by itself: rules and states, stops, limits. That the words and events are QEMU's is shown beside the real programs. */
import { describe, expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { type Io, runAsync, runSync } from '../../src/base/io.ts';
import { OptionSet } from '../../src/base/options.ts';
import { memoryStorage, openDisk } from '../../src/index.ts';
import { BlkdebugStorage, type MediumLimits } from '../../src/layers/blkdebug.ts';
import { DebugRules, parseRules, takeRules } from '../../src/layers/blkdebug-rules.ts';
import { FilterStorage } from '../../src/layers/filter.ts';
import { findDebugger } from '../../src/qemu.ts';

const rulesOf = (text: string) => new DebugRules(parseRules(text));
const section = (name: string, values: Record<string, string | number>) =>
  `[${name}]\n${Object.entries(values)
    .map(([key, value]) => `${key} = "${value}"\n`)
    .join('')}`;

describe('rules', () => {
  it('arm an error from their event on, until another event arms another', () => {
    const rules = rulesOf(section('inject-error', { event: 'l2_load', errno: 28 }) + section('inject-error', { event: 'write_aio', errno: 4 }));
    expect(rules.strike('read', 0, 512)).toBe(0);
    rules.fire('l2_load');
    rules.fire('read_aio');
    expect([rules.strike('read', 0, 512), rules.strike('flush', 0, 0)]).toEqual([28, 28]);
    rules.fire('write_aio');
    expect(rules.strike('read', 0, 512)).toBe(4);
  });

  it('strike once, in a sector, for a kind of request', () => {
    const rules = rulesOf(
      section('inject-error', { event: 'none', errno: 1, sector: 8, once: 'on' }) +
        section('inject-error', { event: 'none', errno: 2, iotype: 'write-zeroes' }) +
        section('inject-error', { event: 'none', errno: 0, iotype: 'read' }) +
        section('inject-error', { event: 'none', errno: 3, iotype: 'block-status' }),
    );
    expect(rules.strike('write', 0, 4096)).toBe(0);
    expect(rules.strike('flush', 0, 0)).toBe(0);
    expect(rules.strike('read', 4096, 1)).toBe(1);
    expect(rules.strike('read', 4096, 1)).toBe(0);
    expect(rules.strike('write-zeroes', 0, 1)).toBe(2);
    expect(rules.strike('block-status', 0, 1)).toBe(3);
  });

  it('of one event are judged by the state before it, and the first one that was given decides over the next', () => {
    const rules = rulesOf(
      section('set-state', { event: 'read_aio', state: 1, new_state: 2 }) +
        section('set-state', { event: 'read_aio', state: 2, new_state: 3 }) +
        section('set-state', { event: 'write_aio', new_state: 7 }) +
        section('set-state', { event: 'write_aio', new_state: 8 }) +
        section('inject-error', { event: 'read_aio', state: 3, errno: 30 }) +
        section('inject-error', { event: 'read_aio', state: 7, errno: 31 }),
    );
    const struck = (event: 'read_aio' | 'write_aio') => {
      rules.fire(event);
      return rules.strike('read', 0, 1);
    };
    expect([struck('read_aio'), struck('read_aio'), struck('read_aio')]).toEqual([0, 0, 30]);
    expect([struck('write_aio'), struck('read_aio')]).toEqual([30, 31]);
  });

  it('stand in options as in a file', () => {
    const options = new OptionSet([
      ['inject-error.0.event', 'l1_update'],
      ['inject-error.0.once', true],
      ['inject-error.1.event', 'l2_update'],
      ['inject-error.1.errno', 28],
      ['set-state.event', 'cow_read'],
      ['set-state.new_state', '5'],
      ['other', 1],
    ]);
    const text = `${section('inject-error', { event: 'l1_update', once: 'on' })}\n# between\n${section('inject-error', { event: 'l2_update', errno: 28 })}`;
    expect(takeRules(options)).toEqual(parseRules(text + section('set-state', { event: 'cow_read', new_state: 5 })));
    expect(options.rest()).toEqual(['other']);
  });
});

/** A storage of which every request is noted. */
class Noted extends FilterStorage {
  readonly asked: string[] = [];

  override read(offset: number, into: Uint8Array): Io<void> {
    this.asked.push(`read ${offset} ${into.length}`);
    return super.read(offset, into);
  }

  override write(offset: number, bytes: Uint8Array): Io<void> {
    this.asked.push(`write ${offset} ${bytes.length}`);
    return super.write(offset, bytes);
  }

  override zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    this.asked.push(`zero ${offset} ${length}`);
    return super.zero(offset, length, options);
  }

  override discard(offset: number, length: number): Io<void> {
    this.asked.push(`discard ${offset} ${length}`);
    return super.discard(offset, length);
  }
}

function limited(limits: MediumLimits) {
  const noted = new Noted(memoryStorage({ bytes: new Uint8Array(100_000).fill(9) }));
  return { noted, layer: new BlkdebugStorage(noted, [], { limits }) };
}

describe('limits', () => {
  it('split requests', async () => {
    const { noted, layer } = limited({ align: 512, maxTransfer: 2000, optWriteZero: 4096, maxWriteZero: 8192, optDiscard: 1024, maxDiscard: 2048 });
    await runAsync(layer.write(512, new Uint8Array(2048).fill(1)));
    await runAsync(layer.read(0, new Uint8Array(1536)));
    await runAsync(layer.zero(2048, 16384));
    await runAsync(layer.discard(512, 4096));
    expect(noted.asked).toEqual([
      ...['write 512 1536', 'write 2048 512', 'read 0 1536'],
      ...['write 2048 1536', 'write 3584 512', 'zero 4096 8192', 'zero 12288 4096', 'write 16384 1536', 'write 17920 512'],
      ...['discard 1024 2048', 'discard 3072 1024'],
    ]);
    const back = new Uint8Array(20_000);
    await runAsync(layer.read(0, back));
    expect([back[511], back[512], back[1023], back[4096], back[18431], back[18432]]).toEqual([9, 1, 1, 0, 0, 9]);
  });

  it('strike the piece that they make', async () => {
    const layer = new BlkdebugStorage(memoryStorage(), parseRules(section('inject-error', { event: 'none', errno: 28, sector: 6 })), {
      limits: { maxTransfer: 1024 },
    });
    const failure = await runAsync(layer.write(0, new Uint8Array(8192))).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(DiskError);
    expect(failure).toMatchObject({ kind: 'no-space', cause: { code: 'ENOSPC' } });
    expect(layer.size).toBe(3072);
  });
});

describe('stops', () => {
  async function open() {
    const said: string[] = [];
    const storage = new BlkdebugStorage(memoryStorage({ bytes: new Uint8Array(4096) }), [], { tell: (line) => said.push(line) });
    const disk = await openDisk(storage, { format: 'raw' });
    return { disk, said, stops: findDebugger(disk) ?? storage };
  }

  it('hold one request until it is resumed, and others go past it', async () => {
    const { disk, said, stops } = await open();
    stops.breakpoint('write_aio', 'A');
    let done = false;
    const held = disk.write(0, new Uint8Array(512).fill(1)).then(() => {
      done = true;
    });
    await stops.suspended('A');
    await disk.write(512, new Uint8Array(512).fill(2));
    const beside = new Uint8Array(1);
    await disk.read(512, beside);
    expect({ done, waiting: stops.waiting, byte: beside[0] }).toEqual({ done: false, waiting: ['A'], byte: 2 });
    stops.resume('A');
    await held;
    expect(done).toBe(true);
    expect(said).toEqual(["blkdebug: Suspended request 'A'", "blkdebug: Resuming request 'A'"]);
    expect(() => stops.resume('A')).toThrow(expect.objectContaining({ kind: 'not-found' }));
    expect(() => stops.breakpoint('nothing', 'A')).toThrow(expect.objectContaining({ kind: 'not-found' }));
    await disk.close();
  });

  it('throw out who cannot wait, and let all go at the end', async () => {
    const { disk, stops } = await open();
    stops.breakpoint('read_aio', 'A');
    expect(() => runSync(disk.storage.read(0, new Uint8Array(1)))).toThrow(expect.objectContaining({ kind: 'would-wait' }));
    expect(stops.waiting).toEqual([]);
    stops.breakpoint('read_aio', 'B');
    stops.breakpoint('read_aio', 'C');
    stops.breakpoint('write_aio', 'D');
    const held = disk.read(0, new Uint8Array(1));
    await stops.suspended('B');
    expect([...stops.waiting].sort()).toEqual(['B', 'C']);
    stops.release();
    await held;
    await disk.write(0, new Uint8Array(1));
    await disk.close();
  });
});
