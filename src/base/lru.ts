/**
 * A bounded map that forgets the least recently used entry first. The caller decides which entries may be forgotten: `victim`
 * skips entries that are still needed (dirty tables, for example).
 */

/** A map in order of use; `capacity` counts entries. */
export class Lru<K, V> {
  readonly capacity: number;
  readonly #entries = new Map<K, V>();

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The value, now the most recently used; `undefined` if absent. */
  get(key: K): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  /** The value, without counting as a use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key);
  }

  /** Adds or replaces. May exceed the capacity: the caller makes room with `victim` and `delete`. */
  set(key: K, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
  }

  delete(key: K): boolean {
    return this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** The least recently used entry that `mayGo` accepts. */
  victim(mayGo: (value: V, key: K) => boolean): [K, V] | undefined {
    for (const [key, value] of this.#entries) if (mayGo(value, key)) return [key, value];
    return undefined;
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.#entries[Symbol.iterator]();
  }
}
