/** How often each cluster of a file is referred to, in chunks that exist only where something is: a sparse file of any size fits. */

const CHUNK = 65536;

export class ClusterCounts {
  readonly #chunks = new Map<number, Uint32Array>();
  #end = 0;

  /** One past the highest cluster counted. */
  get end(): number {
    return this.#end;
  }

  add(cluster: number, count = 1): void {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(index);
    if (!chunk) {
      chunk = new Uint32Array(CHUNK);
      this.#chunks.set(index, chunk);
    }
    const within = cluster - index * CHUNK;
    chunk[within] = (chunk[within] as number) + count;
    if (cluster >= this.#end) this.#end = cluster + 1;
  }

  get(cluster: number): number {
    const index = Math.floor(cluster / CHUNK);
    return this.#chunks.get(index)?.[cluster - index * CHUNK] ?? 0;
  }
}
