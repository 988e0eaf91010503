/** Where an extent has its directories and the tables that they name: no grain and no other table may lie there. */

/** Tables of a larger directory are not looked at. */
const MOST_TABLES = 65_536;

interface Places {
  /** Where directories begin, and the bytes of each. */
  readonly directories: readonly number[];
  readonly directorySize: number;
  readonly tableSize: number;
  readonly directoryEntries: number;
  /** Entries name tables by their places. */
  readonly named: boolean;
}

/** See the top of this file. Bytes from the file's beginning. */
export class MetadataPlaces {
  readonly #places: Places;
  /** The tables, in order; undefined until they are known. */
  #tables: Float64Array | undefined;
  /** Behind the last of them. */
  #end = 0;

  constructor(places: Places) {
    this.#places = places;
  }

  /** The tables have to be told. */
  get wantsTables(): boolean {
    const { named, directoryEntries } = this.#places;
    return this.#tables === undefined && named && directoryEntries <= MOST_TABLES;
  }

  /** Tells where the tables begin. */
  tell(tables: readonly number[]): void {
    this.#tables = Float64Array.from(tables).sort();
    this.#end = (this.#tables.at(-1) ?? -this.#places.tableSize) + this.#places.tableSize;
  }

  /** True if a directory has some of these bytes. */
  hasDirectory(start: number, length: number): boolean {
    const { directories, directorySize } = this.#places;
    for (const at of directories) if (start < at + directorySize && at < start + length) return true;
    return false;
  }

  /** True if a directory or one of the tables that were told has some of these bytes. */
  has(start: number, length: number): boolean {
    return this.hasDirectory(start, length) || (start < this.#end && this.#hasTable(start, length));
  }

  #hasTable(start: number, length: number): boolean {
    const tables = this.#tables ?? new Float64Array();
    let [low, high] = [0, tables.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((tables[middle] as number) < start + length) low = middle + 1;
      else high = middle;
    }
    return low > 0 && (tables[low - 1] as number) + this.#places.tableSize > start;
  }
}
