/**
 * Looking for the image below one that knows it by an id alone (VDI): among the files in the folder of the child, in the folder `Snapshots` there, and in the folder
 * above, where VirtualBox keeps them.
 */
import { readdirSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { DiskError, inspect, runAsync } from '../index.ts';
import { nodeFileStorage } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { formatNamed } from './formats.ts';

/** Files that are looked into at most. */
const MOST = 1000;

/** The name of the file with the image of this id. Throws `not-found`. */
export async function findParent({
  from,
  identity = '',
  format = '',
}: {
  readonly from: string;
  readonly identity?: string;
  readonly format?: string;
}): Promise<string> {
  const folder = dirname(from);
  const folders = [folder, join(folder, 'Snapshots'), join(folder, '..')];
  const endings = formatNamed(format).extensions.map((one) => `.${one}`);
  let looked = 0;
  for (const one of folders)
    for (const name of namesIn(one)) {
      const path = join(one, name);
      if (!endings.includes(extname(name).toLowerCase()) || path === join(from)) continue;
      if (++looked > MOST) break;
      if ((await identityOf(path, format)) === identity) return path;
    }
  throw new DiskError(
    'not-found',
    `No image with the UUID ${identity}, over which ${from} lies, is in ${folder}, its folder Snapshots or the folder above`,
    {
      field: 'parent',
    },
  );
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(systemPath(folder)).sort();
  } catch {
    return [];
  }
}

async function identityOf(path: string, format: string): Promise<string | undefined> {
  try {
    const storage = nodeFileStorage(path, { readOnly: true, locking: 'off' });
    try {
      const report = await inspect(storage);
      return report.format === format ? report.identity : undefined;
    } finally {
      await runAsync(storage.close());
    }
  } catch {
    return undefined;
  }
}
