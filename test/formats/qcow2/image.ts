/** An image's bytes with names for its structures, to be damaged. Entries are bigint here: nothing of the code under test is used. */

export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;

export class Image {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly data: DataView;

  constructor(bytes: Uint8Array, spare = 0) {
    this.bytes = new Uint8Array(bytes.length + spare);
    this.bytes.set(bytes);
    this.data = new DataView(this.bytes.buffer);
  }

  get(at: number): bigint {
    return this.data.getBigUint64(at);
  }

  set(at: number, value: bigint): void {
    this.data.setBigUint64(at, value);
  }

  get clusterSize(): number {
    return 1 << this.data.getUint32(20);
  }

  get corrupt(): boolean {
    return (this.data.getUint32(76) & 2) !== 0;
  }

  get l1(): number {
    return Number(this.get(40));
  }

  get reftable(): number {
    return Number(this.get(48));
  }

  /** Host offset of the table that the entry at `at` names. */
  named(at: number): number {
    return Number(this.get(at) & 0x00ff_ffff_ffff_fe00n);
  }

  get l2(): number {
    return this.named(this.l1);
  }

  get snapshots(): number {
    return Number(this.get(64));
  }

  /** Where entry `index` of the snapshot table is. */
  snapshot(index: number): number {
    let at = this.snapshots;
    for (let i = 0; i < index; i++) {
      const end = at + 40 + this.data.getUint32(at + 36) + this.data.getUint16(at + 12) + this.data.getUint16(at + 14);
      at = Math.ceil(end / 8) * 8;
    }
    return at;
  }

  get refblock(): number {
    return this.named(this.reftable);
  }

  /** Sets the 16-bit count of the cluster at a host offset. */
  count(hostOffset: number, value: number): void {
    this.data.setUint16(this.refblock + (hostOffset / this.clusterSize) * 2, value);
  }

  /** Where entry `index` of the first L2 table is; with extended entries a word of bits of subclusters follows it. */
  entry(index: number): number {
    return this.l2 + index * ((this.data.getUint32(76) & 0x10) === 0 ? 8 : 16);
  }

  /** Sets an extended entry's bits: those that read as zero, and those that are allocated. */
  bits(index: number, zero: number, allocated: number): void {
    this.data.setUint32(this.entry(index) + 8, zero);
    this.data.setUint32(this.entry(index) + 12, allocated);
  }
}
