/** Where tests put their files. */
import { closeSync, constants, openSync, statfsSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
/** The variable that names the usual folder to tests, whose own is the one in memory. */
export const USUAL = 'TABDISK_USUAL_FOLDER';

/** All tests together take less than half of it. */
const ENOUGH = 2 ** 30;

/**
 * A folder in memory where the system has one with enough space, else the usual one for temporary files. Tests flush some ten thousand times, as images must;
 * none of them takes the power away from the disk below, so that disk has nothing to show but how long it takes.
 */
export function temporaryFolder(): string {
  const usual = tmpdir();
  if (process.env['TMPDIR'] !== undefined) return usual;
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize >= ENOUGH && takesDirect(MEMORY) ? MEMORY : usual;
  } catch {
    return usual;
  }
}

/** The usual folder, for tests of what is the file system's: the holes of a file. */
export const usualFolder = (): string => process.env[USUAL] ?? tmpdir();

/** Images are also opened past the system's cache, which is not possible on every file system. Throws where nothing can be written. */
function takesDirect(folder: string): boolean {
  const path = join(folder, `tabdisk-probe-${process.pid}`);
  closeSync(openSync(path, 'wx'));
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  } finally {
    unlinkSync(path);
  }
}
