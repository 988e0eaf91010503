/**
 * Images inside packed files, archives, appliances and CD images, for commands that read. A disk of an archive with several is named as if the archive were a
 * folder: `box.zip/disk.img`. A file that has to be unpacked goes into a temporary file without a name, which vanishes with the process.
 */
import { mkdtempSync, readdirSync, rmSync, type Stats, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { DiskError, runAsync, runSync, type Storage, type UnwrappedDisk, type UnwrappedFile, unwrap } from '../index.ts';
import { NOTHING, type NodeFileStorage, nodeFileStorage } from '../storage/node-file.ts';
import { systemPath } from '../storage/system-path.ts';
import { complain, type Terminal } from './terminal.ts';

/** Files beside a description. */
const MOST_BESIDE = 300;
/** Bytes of a description whose words are looked at. */
const LARGEST_TEXT = 4 * 1024 * 1024;

/** A disk inside a file, and what it needs. */
export interface InnerImage {
  readonly storage: Storage;
  /** A file beside it in the same archive. */
  beside(name: string): Promise<Storage | undefined>;
  close(): void;
}

/** The disk that a name means; undefined if it is that of a file which is no wrapper. Throws a `DiskError` for a wrapper without a disk that is meant. */
export async function innerImage(terminal: Terminal, path: string, { unchecked = false }: { unchecked?: boolean }): Promise<InnerImage | undefined> {
  const place = fileOf(path);
  if (!place) return undefined;
  const opened: Storage[] = [];
  const file = plainFile(place.file);
  if (!file) return undefined;
  opened.push(file);
  const close = () => {
    for (const storage of opened.splice(0)) runSync(storage.close());
  };
  try {
    const create = (): Storage => {
      const storage = temporaryFile();
      opened.push(storage);
      return storage;
    };
    const beside = await filesBeside(file, place.file);
    opened.push(...beside);
    const found = await unwrap(file, { create, beside });
    if (!found) {
      close();
      return undefined;
    }
    for (const warning of found.warnings) complain(terminal, `warning: ${warning}`);
    const disk = chosen(found, place);
    return { storage: await disk.open({ unchecked }), beside: (name) => disk.beside(name), close };
  } catch (error) {
    close();
    throw error;
  }
}

interface Place {
  readonly file: string;
  /** The path inside it; undefined if the name is that of the file. */
  readonly member: string | undefined;
}

/** The file that is there, of a name which may go on inside it. */
function fileOf(path: string): Place | undefined {
  let member: string | undefined;
  for (let file = path; file !== '.' && file !== '/' && file !== ''; ) {
    const stats = statsOf(file);
    if (stats) return stats.isFile() ? { file, member } : undefined;
    member = member === undefined ? basename(file) : `${basename(file)}/${member}`;
    file = dirname(file);
  }
  return undefined;
}

function statsOf(path: string): Stats | undefined {
  try {
    return statSync(systemPath(path));
  } catch {
    // A name that goes on below a file is not a folder's, and opening it as an image tells of all else.
    return undefined;
  }
}

function plainFile(path: string): NodeFileStorage | undefined {
  try {
    return nodeFileStorage(path, { readOnly: true, locking: 'off', permissions: NOTHING });
  } catch {
    // Opening it as an image tells why.
    return undefined;
  }
}

/** The files in the same folder that a description names, by their names, or a manifest beside it. */
async function filesBeside(file: NodeFileStorage, path: string): Promise<Storage[]> {
  if (file.size > LARGEST_TEXT) return [];
  const bytes = new Uint8Array(file.size);
  await runAsync(file.read(0, bytes));
  const text = new TextDecoder().decode(bytes).toLowerCase();
  if (!text.includes('<') && !text.includes('file')) return [];
  const folder = dirname(path);
  const own = basename(path)
    .replace(/\.[^.]*$/, '')
    .toLowerCase();
  const named = readdirSync(systemPath(folder), { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== basename(path))
    .map(({ name }) => name)
    .filter((name) => text.includes(name.replace(/\.\d{9}$/, '').toLowerCase()) || name.toLowerCase() === `${own}.mf`);
  return named.slice(0, MOST_BESIDE).flatMap((name) => plainFile(path.includes('/') ? join(folder, name) : name) ?? []);
}

function chosen({ disks }: UnwrappedFile, { file, member }: Place): UnwrappedDisk {
  const list = disks.map(({ path }) => `'${file}/${path}'`).join(', ');
  const meant = member === undefined ? disks : disks.filter(({ path, name }) => path === member || name === member);
  const [disk] = meant;
  if (disk && meant.length === 1) return disk;
  const reason = member === undefined ? `It holds ${disks.length} disks` : `There is no disk '${member}' in it`;
  throw new DiskError(member === undefined ? 'refused' : 'not-found', `${reason}: name one of ${list}`, { field: 'member' });
}

/** A file that is gone when it is closed, however the process ends. */
function temporaryFile(): Storage {
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-unpacked-'));
  try {
    return nodeFileStorage(join(folder, 'unpacked'), { create: 'must-not-exist', locking: 'off', permissions: NOTHING });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
