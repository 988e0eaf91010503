/**
 * What the tables of a QED image say: clusters with no place or two, and clusters that nothing points at, counted as by qemu-img check. A repair, of either
 * kind, gives up entries that point nowhere; clusters that nothing points at stay, as in QEMU.
 */
import { divideUp } from '../../base/bytes.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CheckOptions, CheckResult } from '../tools.ts';
import { badPlace, ENTRY, entryAt, type Header, ZERO } from './layout.ts';
import { PAGE_ENTRIES, setEntry, type Tables } from './tables.ts';

/** Lines of findings that are kept. */
const MAX_MESSAGES = 1000;

/** A check that is under way. */
class Check {
  readonly #header: Header;
  readonly #tables: Tables;
  readonly #options: CheckOptions;
  /** Whole clusters of the file: a bit each. */
  readonly #clusters: number;
  readonly #used: Uint8Array;
  readonly result: CheckResult;

  constructor(storage: Storage, { header, tables }: { header: Header; tables: Tables }, options: CheckOptions) {
    this.#header = header;
    this.#tables = tables;
    this.#options = options;
    this.#clusters = Math.floor(storage.size / header.clusterSize);
    this.#used = new Uint8Array(divideUp(this.#clusters, 8));
    const none = { corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0, allocatedClusters: 0, fragmentedClusters: 0 };
    const totalClusters = divideUp(header.size, header.clusterSize);
    this.result = { ...none, compressedClusters: 0, totalClusters, imageEndOffset: 0, messages: [] };
  }

  *run(): Io<void> {
    const { header, tables } = { header: this.#header, tables: this.#tables };
    this.#take(0, header.headerSize);
    this.#take(header.l1Offset, header.tableSize);
    for (let index = 0; index < tables.entries; index += PAGE_ENTRIES) {
      const page = yield* tables.l1.pass(header.l1Offset + index * ENTRY);
      for (let at = 0; at < PAGE_ENTRIES; at++) {
        const table = entryAt(page.data, at);
        if (table === 0) continue;
        const bad = this.#bad(table, header.tableSize);
        if (bad && this.#corruption(`L1 entry ${index + at} points at ${bad}`)) setEntry(tables.l1, { page, index: at }, 0);
        // A table that has its place twice would be counted twice.
        if (!bad && this.#take(table, header.tableSize)) {
          page.pins++;
          yield* this.#table(table, (index + at) * tables.entries);
          page.pins--;
        }
      }
    }
    this.result.leaks = this.#leaks();
    if (this.result.leaks > 0) this.#say(`Leaked ${this.result.leaks} clusters that nothing points at`);
  }

  /** `first`: the number of the guest cluster that the table begins with. */
  *#table(table: number, first: number): Io<void> {
    const { result } = this;
    const { l2, entries } = this.#tables;
    // QEMU counts each table by itself.
    let last = 0;
    for (let index = 0; index < entries; index += PAGE_ENTRIES) {
      const page = yield* l2.pass(table + index * ENTRY);
      for (let at = 0; at < PAGE_ENTRIES; at++) {
        const place = entryAt(page.data, at);
        if (place <= ZERO) continue;
        const bad = this.#bad(place, 1);
        if (bad && this.#corruption(`L2 entry ${first + index + at} points at ${bad}`)) {
          setEntry(l2, { page, index: at }, 0);
          continue;
        }
        result.allocatedClusters++;
        if (last !== 0 && last + this.#header.clusterSize !== place) result.fragmentedClusters++;
        last = place;
        if (!bad) this.#take(place, 1);
      }
    }
  }

  #bad(place: number, clusters: number): string | undefined {
    return badPlace(this.#header, place, this.#clusters * this.#header.clusterSize, clusters);
  }

  /** Notes that clusters are in use; false if one was so before, which is a corruption that is not repaired. */
  #take(hostOffset: number, count: number): boolean {
    const first = hostOffset / this.#header.clusterSize;
    let free = true;
    for (let cluster = first; cluster < first + count && cluster < this.#clusters; cluster++) {
      const [byte, bit] = [cluster >>> 3, 1 << (cluster & 7)];
      if (((this.#used[byte] as number) & bit) !== 0) {
        free = false;
        this.result.corruptions++;
        this.#say(`ERROR cluster at 0x${(cluster * this.#header.clusterSize).toString(16)} is used twice`);
      }
      this.#used[byte] = (this.#used[byte] as number) | bit;
    }
    return free;
  }

  /** Returns true if the entry is to be given up. */
  #corruption(message: string): boolean {
    const mended = this.#options.repair !== undefined;
    this.result[mended ? 'corruptionsFixed' : 'corruptions']++;
    this.#say(`${mended ? 'Repairing' : 'ERROR'} ${message}`);
    return mended;
  }

  #leaks(): number {
    let leaks = 0;
    for (let cluster = 0; cluster < this.#clusters; cluster++) if (((this.#used[cluster >>> 3] as number) & (1 << (cluster & 7))) === 0) leaks++;
    return leaks;
  }

  #say(message: string): void {
    if (this.result.messages.length < MAX_MESSAGES) this.result.messages.push(message);
    this.#options.onMessage?.(message);
  }
}

/** See `ImageTools.check`. Changes of a repair are in memory afterwards. */
export function* checkTables(storage: Storage, parts: { header: Header; tables: Tables }, options: CheckOptions): Io<CheckResult> {
  const check = new Check(storage, parts, options);
  yield* check.run();
  return check.result;
}
