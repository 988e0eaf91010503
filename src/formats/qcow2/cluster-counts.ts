/** How often each cluster of a file is referred to, in chunks that exist only where references do: so a sparse file of any size fits. */

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
    const chunk = this.#chunks.get(index) ?? this.#make(cluster);
    const within = cluster - index * CHUNK;
    chunk[within] = (chunk[within] as number) + count;
    if (cluster >= this.#end) this.#end = cluster + 1;
  }

  /** One more for each of `clusters` from `first` on. */
  addRange(first: number, clusters: number): void {
    const end = first + clusters;
    for (let cluster = first; cluster < end; ) {
      const chunk = this.#chunks.get(Math.floor(cluster / CHUNK)) ?? this.#make(cluster);
      const from = cluster % CHUNK;
      const to = Math.min(CHUNK, from + end - cluster);
      for (let i = from; i < to; i++) chunk[i] = (chunk[i] as number) + 1;
      cluster += to - from;
    }
    if (clusters > 0 && end > this.#end) this.#end = end;
  }

  /** How many counts from cluster `first` on equal those of `others`, from its index `from` on, before one differs. */
  alike(first: number, others: Float64Array, from: number): number {
    let at = from;
    while (at < others.length) {
      const cluster = first + at - from;
      const chunk = this.#chunks.get(Math.floor(cluster / CHUNK));
      const within = cluster % CHUNK;
      const end = Math.min(others.length, at + CHUNK - within);
      const start = at;
      if (chunk) while (at < end && chunk[within + at - start] === others[at]) at++;
      else while (at < end && others[at] === 0) at++;
      if (at < end) break;
    }
    return at - from;
  }

  get(cluster: number): number {
    const index = Math.floor(cluster / CHUNK);
    return this.#chunks.get(index)?.[cluster - index * CHUNK] ?? 0;
  }

  #make(cluster: number): Uint32Array {
    const chunk = new Uint32Array(CHUNK);
    this.#chunks.set(Math.floor(cluster / CHUNK), chunk);
    return chunk;
  }
}
