/**
 * What the table of a Parallels disk says: where its clusters are, and what is wrong with it. Counts and lines are those of qemu-img check, which does not
 * look for two damages that are found here besides: a cluster inside the header or the table, and one that two entries name. They are not repaired.
 *
 * Crash argument of a repair: entries are durable before the file is cut behind the last cluster, and both before the in-use mark goes. A cut leaves an image
 * that is still marked, and repaired by the next one.
 */
import { divideUp, roundUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import type { Storage } from '../../storage/storage.ts';
import type { EntryTable } from '../../tables/entry-table.ts';
import { FileEnd } from '../../tables/file-end.ts';
import type { CheckOptions, CheckResult } from '../tools.ts';
import { BAT_WORD, HEADER_SIZE, type Header, IN_USE_WORD } from './layout.ts';

/** Lines of findings that are kept. */
const MAX_MESSAGES = 1000;

/** A damaged entry in words; `outside`: it points past the end of the file, and can be given up. */
export interface BadEntry {
  readonly index: number;
  readonly message: string;
  readonly outside: boolean;
}

/** What is wrong with a cluster's place by itself. */
export function badPlace(header: Header, hostOffset: number, fileSize: number): 'outside image' | 'inside the table' | undefined {
  if (hostOffset > roundUp(fileSize, SECTOR)) return 'outside image';
  return hostOffset < HEADER_SIZE + header.entries * 4 ? 'inside the table' : undefined;
}

/** Goes over the whole table. `tell` hears of each entry that is wrong, and returns true if it gave the entry up; `see` hears of each place that is left. */
export function* clusterPlaces(
  storage: Storage,
  { header, map }: { header: Header; map: EntryTable },
  { tell, see }: { tell: (bad: BadEntry) => boolean; see: (hostOffset: number, index: number) => void },
): Io<void> {
  const seen = new Set<number>();
  yield* map.loadAll();
  for (let index = 0; index < header.entries; index++) {
    const hostOffset = (map.get(BAT_WORD + index) as number) * header.entryUnit;
    if (hostOffset === 0) continue;
    const bad = badPlace(header, hostOffset, storage.size) ?? (seen.has(hostOffset) ? 'at the place of another one' : undefined);
    if (bad && tell({ index, message: `cluster ${index} is ${bad}`, outside: bad === 'outside image' })) continue;
    seen.add(hostOffset);
    see(hostOffset, index);
  }
}

/**
 * Where new clusters go. Clusters that do not lie in one grid leave no holes of a known size, and a format extension has clusters that the table does not
 * name: in these images new clusters go behind all others, or behind the whole file.
 */
export function* freePlaces(storage: Storage, { header, map }: { header: Header; map: EntryTable }, tell: (bad: BadEntry) => never): Io<FileEnd> {
  const { clusterSize, entryUnit, dataStart, extended } = header;
  const start = roundUp(dataStart, entryUnit);
  const used = new Set<number>();
  let end = extended ? Math.max(start, storage.size) : start;
  let grid = !extended;
  const see = (hostOffset: number) => {
    grid &&= hostOffset >= start && (hostOffset - start) % clusterSize === 0;
    end = Math.max(end, hostOffset + clusterSize);
    used.add((hostOffset - start) / clusterSize);
  };
  yield* clusterPlaces(storage, { header, map }, { tell, see });
  return new FileEnd(storage, { base: grid ? start : roundUp(end, entryUnit), unit: clusterSize, used: grid ? used : new Set() });
}

/** See `ImageTools.check`. `unclean`: the image was in use when it was opened. `flush` makes changes of the table durable. */
export function* checkImage(
  storage: Storage,
  { header, map, unclean, flush }: { header: Header; map: EntryTable; unclean: boolean; flush: () => Io<void> },
  { repair, onMessage = () => undefined }: CheckOptions,
): Io<CheckResult> {
  const { clusterSize, dataStart, entries, extended } = header;
  const messages: string[] = [];
  const found = { corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0, fragmentedClusters: 0, compressedClusters: 0 };
  const say = (mended: boolean, message: string): void => {
    const line = `${mended ? 'Repairing' : 'ERROR'} ${message}`;
    if (messages.length < MAX_MESSAGES) messages.push(line);
    onMessage(line);
  };
  const corruption = (mended: boolean, message: string): void => {
    say(mended, message);
    found[mended ? 'corruptionsFixed' : 'corruptions']++;
  };
  const all = repair === 'all';
  if (unclean) corruption(all, 'image was not closed correctly');
  let [allocatedClusters, highest, last] = [0, 0, { index: -2, hostOffset: 0 }];
  const tell = ({ index, message, outside }: BadEntry) => {
    const mended = all && outside;
    corruption(mended, message);
    if (mended) map.set(BAT_WORD + index, 0);
    return mended;
  };
  const see = (hostOffset: number, index: number) => {
    allocatedClusters++;
    highest = Math.max(highest, hostOffset);
    if (index === last.index + 1 && last.hostOffset + clusterSize !== hostOffset) found.fragmentedClusters++;
    last = { index, hostOffset };
  };
  yield* clusterPlaces(storage, { header, map }, { tell, see });
  // QEMU takes the end of an empty image for one cluster, and would cut off a larger table.
  const imageEndOffset = highest === 0 ? Math.max(dataStart, clusterSize) : highest + clusterSize;
  if (all) yield* flush();
  const leaked = extended ? 0 : Math.max(0, roundUp(storage.size, SECTOR) - imageEndOffset);
  if (leaked > 0) {
    say(repair !== undefined, `space leaked at the end of the image ${leaked}`);
    found[repair ? 'leaksFixed' : 'leaks'] += divideUp(leaked, clusterSize);
    if (repair) yield* storage.truncate(imageEndOffset);
    if (repair) yield* storage.flush();
  }
  if (all && unclean) {
    map.set(IN_USE_WORD, 0);
    yield* flush();
  }
  return { ...found, totalClusters: entries, allocatedClusters, imageEndOffset, messages };
}
