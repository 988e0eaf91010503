/** The page's look at an image that another tab saves to meanwhile: it must come to an end, and with what the other has saved. */
import { expect, test } from 'vitest';
import { ImageSession } from '../../src/app/session.ts';
import { MiB } from '../../src/base/units.ts';
import type { Engine, RemoteDisk } from '../../src/index.ts';
import { pattern } from '../storage/contract.ts';
import { ownLibrary } from './engines.ts';

const { newTab } = ownLibrary();

/** The session of an engine of which `overtaken` openings are overtaken by a save before anything is read; counts the openings. */
function lookingTab(engine: Engine, save: () => Promise<void>): { engine: Engine; overtaken: number; openings: number } {
  const tab = { engine, overtaken: 0, openings: 0 };
  tab.engine = new Proxy(engine, {
    get(target, key) {
      if (key !== 'open') return Reflect.get(target, key, target);
      return async (...call: Parameters<Engine['open']>): Promise<RemoteDisk> => {
        const disk = await target.open(...call);
        if (++tab.openings <= tab.overtaken) await save();
        return disk;
      };
    },
  });
  return tab;
}

for (const place of ['opfs', 'indexeddb'] as const) {
  test(`another tab saves between the opening and the reading, several times: ${place}`, async () => {
    const [one, two] = [await newTab(), await newTab()];
    const entry = await one.engine.library.create({ name: 'a disk', format: 'qcow2', size: 32 * MiB, place });
    const disk = await one.engine.open(entry.id);
    let saves = 0;
    const save = async (): Promise<void> => {
      await disk.write(saves * 65_536, pattern(65_536, ++saves));
      await disk.flush();
    };
    const far = pattern(12 * MiB, 99);
    await disk.write(16 * MiB, far);
    await save();
    const looking = lookingTab(two.engine, save);
    const nobody = async (): Promise<void> => undefined;
    const [inUse] = await two.engine.library.list();
    const session = new ImageSession(looking.engine, inUse ?? entry, nobody, () => undefined);
    const at = (offset: number) => session.use((view) => view.read(offset, 1));

    looking.overtaken = 3;
    const before = saves;
    expect(await at(before * 65_536)).toEqual(pattern(1, before + 1));
    expect([saves - before, looking.openings]).toEqual([3, 4]);
    // A view that has become old is opened anew when it needs more of the image, and that one may be overtaken too.
    await save();
    looking.overtaken = looking.openings + 2;
    expect(await at(22 * MiB)).toEqual(far.slice(6 * MiB, 6 * MiB + 1));
    expect(looking.openings).toBe(7);

    // A writer that never rests: it is said in the end.
    looking.overtaken = Number.POSITIVE_INFINITY;
    await session.refresh();
    await expect(at(0)).rejects.toMatchObject({ kind: 'in-use' });
    await session.close();
    await disk.close();
  });
}
