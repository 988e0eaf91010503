/** What is kept in this browser by storages that are used without a library: names, and removal. */
import { check, oneOf, TEXT } from '../base/arguments.ts';
import { deleteIndexedDbStorage, indexedDbNames } from './indexed-db-blocks.ts';
import { deleteOpfsFile, opfsFileNames } from './opfs.ts';

/** Where `indexedDbStorage` and `opfsStorage` keep images. */
export type StoredIn = 'indexeddb' | 'opfs';

const PLACE = oneOf('indexeddb', 'opfs');

/**
 * The names of what lies there: for `indexedDbStorage(name)`, or of the files in a folder for `opfsStorage(`${folder}/${name}`)`, by default in the
 * outermost one; none if there is no such folder. Those of a library are among them (by ids): the library tells which they are.
 */
export async function listImages(place: StoredIn, folder = ''): Promise<string[]> {
  check('listImages', 'place', place, PLACE);
  check('listImages', 'folder', folder, TEXT);
  return place === 'indexeddb' ? indexedDbNames() : opfsFileNames(folder);
}

/** Removes what has this name or path; nothing happens if it is not there. Throws `locked` while it is open for writing. */
export async function deleteImage(place: StoredIn, name: string): Promise<void> {
  check('deleteImage', 'place', place, PLACE);
  check('deleteImage', 'name', name, TEXT);
  await (place === 'indexeddb' ? deleteIndexedDbStorage(name) : deleteOpfsFile(name));
}
