/**
 * Several files through a log of changes, and what a cut can leave of them. Of each file: what its last flush covers, then whole stretches
 * up to some barrier, then any part of the stretch behind that. What is open is the stretch of each file since its own last barrier.
 */
import { isZero } from '../../src/base/bytes.ts';
import type { LogEntry } from '../layers/recorder.ts';

export type Change = Extract<LogEntry, { kind: 'write' | 'truncate' }>;

/** Contents by file name. */
export type Files = ReadonlyMap<string, Uint8Array>;

interface FileLog {
  /** What is there whatever happens, and what the barriers since then end: the last is the newest. Never empty. */
  bases: Uint8Array[];
  /** Since the last barrier. */
  open: Change[];
}

export class CutFiles {
  readonly #files: Map<string, FileLog>;
  /** Open changes of all files, in order. */
  #stretch: Change[] = [];

  constructor(start: Files) {
    this.#files = new Map([...start].map(([name, bytes]) => [name, { bases: [bytes], open: [] }]));
  }

  /** Changes since the last barrier of the file that they are made to, in order. */
  get stretch(): readonly Change[] {
    return this.#stretch;
  }

  change(change: Change): void {
    this.#stretch.push(change);
    this.#log(change.file).open.push(change);
  }

  /** A barrier or a flush of one file. */
  order({ file, kind }: LogEntry): void {
    const log = this.#log(file);
    const next = rebuild(log.bases.at(-1) as Uint8Array, log.open);
    log.bases = kind === 'flush' || this.#files.size === 1 ? [next] : [...log.bases, next];
    log.open = [];
    this.#stretch = this.#stretch.filter((change) => change.file !== file);
  }

  /** The files with some of the open changes. */
  with(changes: readonly Change[]): Files {
    const state = new Map<string, Uint8Array>();
    for (const [name, { bases }] of this.#files) {
      const own = this.#files.size === 1 ? changes : changes.filter(({ file }) => file === name);
      state.set(name, rebuild(bases.at(-1) as Uint8Array, own));
    }
    return state;
  }

  /** One file as one of its barriers, or its last flush, has left it, the others with everything. */
  *behind(): Generator<{ state: Files; what: string }> {
    const all = this.with(this.#stretch);
    for (const [name, { bases }] of this.#files)
      for (const [index, base] of bases.slice(0, -1).entries()) yield { state: new Map(all).set(name, base), what: `${name} ${index} barriers on` };
  }

  #log(file: string): FileLog {
    const log = this.#files.get(file);
    if (!log) throw new Error(`the log has changes to a file "${file}" that was not there at the start`);
    return log;
  }
}

const PIECE = 16_384;
const known = new WeakMap<Uint8Array, readonly (readonly [start: number, end: number])[]>();

/** The pieces of a file that are not all zeros. A file is copied for each of thousands of states, and memory that stays zero costs nothing. */
function filledRuns(bytes: Uint8Array): readonly (readonly [start: number, end: number])[] {
  let runs = known.get(bytes);
  if (!runs) {
    const found: [number, number][] = [];
    for (let start = 0; start < bytes.length; start += PIECE) {
      const end = Math.min(bytes.length, start + PIECE);
      const last = found.at(-1);
      if (isZero(bytes.subarray(start, end))) continue;
      if (last?.[1] === start) last[1] = end;
      else found.push([start, end]);
    }
    runs = found;
    known.set(bytes, runs);
  }
  return runs;
}

function rebuild(base: Uint8Array, changes: readonly Change[]): Uint8Array {
  let size = base.length;
  for (const change of changes) size = change.kind === 'truncate' ? Math.max(size, change.size) : Math.max(size, change.offset + change.bytes.length);
  const file = new Uint8Array(size);
  for (const [start, end] of filledRuns(base)) file.set(base.subarray(start, end), start);
  let end = base.length;
  for (const change of changes) {
    if (change.kind === 'write') {
      file.set(change.bytes, change.offset);
      end = Math.max(end, change.offset + change.bytes.length);
    } else {
      if (change.size < end) file.fill(0, change.size, end);
      end = change.size;
    }
  }
  return file.subarray(0, end);
}
