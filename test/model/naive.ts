/** The disk every other must agree with: a plain array, and copies of it for snapshots. */

export class NaiveDisk {
  bytes: Uint8Array;
  readonly snapshots = new Map<string, Uint8Array>();

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  resize(size: number): void {
    const bytes = new Uint8Array(size);
    bytes.set(this.bytes.subarray(0, size));
    this.bytes = bytes;
  }

  snapshot(name: string): void {
    this.snapshots.set(name, this.bytes.slice());
  }

  revert(name: string): void {
    this.bytes = (this.snapshots.get(name) as Uint8Array).slice();
  }
}

/** Where two arrays first differ, or -1. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return a.length === b.length ? -1 : length;
}
