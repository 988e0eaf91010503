/** `snapshot`: list, create, apply and delete the snapshots inside an image. */
import { type Disk, DiskError, type ErrorKind } from '../index.ts';
import { printUsage } from './help.ts';
import { withImages } from './images.ts';
import { onlyFile } from './info.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { snapshotTable } from './snapshot-table.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
import { imageText } from './words.ts';

const ACTIONS = ['l', 'a', 'c', 'd'] as const;

/** Runs `snapshot`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'la:c:d:hqU',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', 'force-share': 'U' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'snapshot');
  const given = ACTIONS.flatMap((action) => options.all(action).map(() => action));
  if (given.length > 1) throw misuse("Cannot mix '-l', '-a', '-c', '-d'");
  const path = onlyFile(options);
  const action = given[0];
  const name = action === undefined ? '' : (options.last(action) as string);
  return withImages(terminal, async (images) => {
    const { disk } = await images.open({
      path,
      imageOpts: options.has('image-opts'),
      readOnly: action === undefined || action === 'l',
      forceShare: options.has('U'),
    });
    const { snapshots } = disk;
    if (action === 'l') {
      const list = (await disk.info()).snapshots;
      if (list) terminal.out(snapshotTable(list));
    } else if (action === 'c') {
      if (!snapshots.supported) throw new Failure(`Could not create snapshot '${name}': -95 (Operation not supported)`);
      await attempt(`Could not create snapshot '${name}'`, () => snapshots.create({ name }), { unsupported: '-95 (Operation not supported)' });
    } else if (action === 'a') {
      const failed = `Could not apply snapshot '${name}'`;
      if (!snapshots.supported) throw new Failure(`${failed}: Block driver does not support snapshots`);
      await attempt(failed, () => snapshots.apply(name), {
        'not-found': `Failed to load snapshot: ${(await hasDataFile(disk)) ? 'Operation not supported' : 'No such file or directory'}`,
        unsupported: 'Failed to load snapshot: Operation not supported',
      });
    } else if (action === 'd') {
      // By name only: an id that looks like a name must not delete another snapshot.
      const failed = `Could not delete snapshot '${name}'`;
      const found = (await snapshots.list()).find((snapshot) => snapshot.name === name);
      if (!found) throw new Failure(`${failed}: snapshot not found`);
      await attempt(failed, () => snapshots.delete(found.id));
    }
    return 0;
  });
}

const hasDataFile = async (disk: Disk): Promise<boolean> => (await disk.info())['format-specific']?.data['data-file'] !== undefined;

async function attempt(what: string, body: () => Promise<unknown>, words: Partial<Record<ErrorKind, string>> = {}): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new Failure(`${what}: ${words[error.kind] ?? imageText(error)}`);
  }
}
