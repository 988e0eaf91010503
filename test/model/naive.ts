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
  for (let i = sameWords(a, b, length); i < length; i++) if (a[i] !== b[i]) return i;
  return a.length === b.length ? -1 : length;
}

/** How many bytes at the start are seen to be the same when words are compared: all of them, up to the last word, where nothing differs and both lie on words. */
function sameWords(a: Uint8Array, b: Uint8Array, length: number): number {
  if ((a.byteOffset | b.byteOffset) % 4 !== 0) return 0;
  const words = Math.floor(length / 4);
  const [one, other] = [new Int32Array(a.buffer, a.byteOffset, words), new Int32Array(b.buffer, b.byteOffset, words)];
  let i = 0;
  while (i < words && one[i] === other[i]) i++;
  return i * 4;
}
