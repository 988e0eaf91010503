/** A site with no more space, made so through the browser's own debugging protocol: nothing flushed is lost, and space helps. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cdp } from 'vitest/browser';
import { MiB } from '../../src/base/units.ts';
import { expectBytes, kindOf, pattern } from '../storage/contract.ts';
import { newLibrary, openTab, removeLibrary, storedIds, type Tab } from './engines.ts';

let library: string;
let tab: Tab;

const setQuota = (quotaSize?: number): Promise<unknown> =>
  cdp().send('Storage.overrideQuotaForOrigin', { origin: location.origin, ...(quotaSize === undefined ? {} : { quotaSize }) });

/** Leaves about this many bytes. */
async function leave(bytes: number): Promise<void> {
  const { usage = 0 } = await navigator.storage.estimate();
  await setQuota(usage + bytes);
}

beforeEach(async () => {
  library = newLibrary();
  tab = await openTab(library);
});

afterEach(async () => {
  await setQuota();
  tab.kill();
  await removeLibrary(library);
});

for (const place of ['opfs', 'indexeddb'] as const) {
  test(`with no space left, ${place} refuses what does not fit, keeps every flushed byte, and goes on when there is space`, {
    timeout: 120_000,
  }, async () => {
    const { engine } = tab;
    const { id } = await engine.library.create({ name: 'full', format: 'qcow2', size: 256 * MiB, place });
    const disk = await engine.open(id);
    await disk.write(0, pattern(2 * MiB, 1));
    await disk.flush();
    await leave(5 * MiB);
    // In steps, as a guest writes, and slowly: Chromium believes for half a minute that IndexedDB has the space it had before.
    let written = 2 * MiB;
    let accepted = true;
    let kind: string | undefined;
    while (kind === undefined && written < 80 * MiB) {
      kind = await kindOf(disk.write(written, pattern(MiB, written / MiB)));
      accepted = kind === undefined;
      kind ??= await kindOf(disk.flush());
      if (kind === undefined) written += MiB;
      if (place === 'indexeddb') await new Promise((resolve) => setTimeout(resolve, 700));
    }
    expect(kind).toBe('no-space');
    expectBytes(await disk.read(0, 2 * MiB), pattern(2 * MiB, 1));
    // What a flush had covered is there for whoever comes after a crash.
    const other = await openTab(library);
    const found = await other.engine.open(id, { readOnly: true });
    for (let at = 2 * MiB; at < written; at += MiB) expectBytes(await found.read(at, MiB), pattern(MiB, at / MiB), `at ${at}:`);
    // A new image finds no room either, and leaves nothing.
    const file = new File([pattern(80 * MiB, 2)], 'large.img');
    expect(await kindOf(other.engine.library.import(file, { name: 'large', place }))).toBe('no-space');
    expect(await storedIds(library)).toHaveLength(1);
    expect((await other.engine.library.list()).map(({ name }) => name)).toEqual(['full']);
    other.kill();
    await setQuota();
    // The request that failed, again: what was accepted and not flushed is not written a second time.
    if (!accepted) await disk.write(written, pattern(MiB, written / MiB));
    await disk.flush();
    const after = await openTab(library);
    const flushed = await after.engine.open(id, { readOnly: true });
    expectBytes(await flushed.read(written, MiB), pattern(MiB, written / MiB), 'after the flush:');
    after.kill();
    for (let at = 2 * MiB; at <= written; at += MiB) expectBytes(await disk.read(at, MiB), pattern(MiB, at / MiB), `at ${at}:`);
    expect(await disk.check()).toMatchObject({ corruptions: 0, checkErrors: 0 });
    await disk.close();
  });
}
