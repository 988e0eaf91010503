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
  /** States over the newest of `bases`. */
  states?: States;
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
    if (log.open.length > 0) delete log.states;
    const next = log.open.length > 0 ? new States(log.bases.at(-1) as Uint8Array).after(log.open) : (log.bases.at(-1) as Uint8Array);
    log.bases = kind === 'flush' || this.#files.size === 1 ? [next] : [...log.bases, next];
    log.open = [];
    this.#stretch = this.#stretch.filter((change) => change.file !== file);
  }

  /** The files with some of the open changes. They hold until the next call, which may use their memory again. */
  with(changes: readonly Change[]): Files {
    const state = new Map<string, Uint8Array>();
    for (const [name, log] of this.#files) {
      const own = this.#files.size === 1 ? changes : changes.filter(({ file }) => file === name);
      log.states ??= new States(log.bases.at(-1) as Uint8Array);
      state.set(name, log.states.after(own));
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

/** A file after some changes or others, one state at a time: only what the state before has changed is made good, for a file may have many mebibytes. */
class States {
  readonly #base: Uint8Array;
  /** The base, zeros up to its end, and the changes of the last state. */
  #file: Uint8Array;
  /** Where that differs from the base. */
  #touched: [start: number, end: number][] = [];

  constructor(base: Uint8Array) {
    this.#base = base;
    this.#file = this.#copy(base.length);
  }

  #copy(size: number): Uint8Array {
    const file = new Uint8Array(size);
    for (const [start, end] of filledRuns(this.#base)) file.set(this.#base.subarray(start, end), start);
    return file;
  }

  /** The file after these changes. Holds until the next call. */
  after(changes: readonly Change[]): Uint8Array {
    const base = this.#base;
    let size = base.length;
    for (const change of changes) size = Math.max(size, change.kind === 'truncate' ? change.size : change.offset + change.bytes.length);
    if (size > this.#file.length) {
      // Memory that is not written to costs nothing.
      this.#file = this.#copy(2 * size);
      this.#touched = [];
    }
    const file = this.#file;
    for (const [start, end] of this.#touched) {
      file.set(base.subarray(start, end), start);
      if (end > base.length) file.fill(0, Math.max(start, base.length), end);
    }
    this.#touched = [];
    let end = base.length;
    for (const change of changes) {
      if (change.kind === 'write') {
        file.set(change.bytes, change.offset);
        this.#touched.push([change.offset, change.offset + change.bytes.length]);
        end = Math.max(end, change.offset + change.bytes.length);
      } else {
        if (change.size < end) {
          file.fill(0, change.size, end);
          this.#touched.push([change.size, end]);
        }
        end = change.size;
      }
    }
    return file.subarray(0, end);
  }
}
