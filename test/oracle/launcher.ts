/**
 * Starts programs for tests that wait for them. A test's process has grown large, and a program that it starts begins as a copy of it. So a small shell is
 * started once for each process of tests; it is told each command through a pipe and answers with the program's status through another. What the program says
 * goes through files.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The end of a program. */
export interface Ended {
  /** -1 if a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface LaunchOptions {
  /** Default: the current folder. */
  readonly cwd?: string;
  /** What the program reads from its standard input; default: nothing. */
  readonly input?: string;
}

/** A program that takes longer hangs. */
const MOST_MILLISECONDS = 120_000;
/** How often an answer is looked for: at first, and at last. A look costs as much as a small part of the program, so pauses grow with the time that it takes. */
const PAUSES = { first: 0.5, last: 4 };
/** The part of the time so far that a pause adds. */
const PAUSE_SHARE = 1 / 16;
/** What a shell answers where there is no such program, and the least that it answers after a signal. */
const NOT_FOUND = 127;
const SIGNAL = 128;

const pause = new Int32Array(new SharedArrayBuffer(4));

/** The shell, with the pipes to it and from it. */
class Launcher {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tabdisk-launcher-'));
  readonly #shell: ChildProcess;
  readonly #orders: number;
  readonly #answers: number;

  constructor() {
    const { status } = spawnSync('mkfifo', [this.#at('orders'), this.#at('answers')]);
    if (status !== 0) throw new Error('mkfifo is needed to start other programs');
    // Orders end when this process does, however that comes; then the shell takes the folder away.
    this.#shell = spawn('sh', ['-c', '. "$0/orders"; rm -r "$0"', this.#folder], { stdio: 'ignore', detached: true });
    this.#shell.unref();
    this.#answers = openSync(this.#at('answers'), constants.O_RDONLY | constants.O_NONBLOCK);
    this.#orders = openSync(this.#at('orders'), 'w');
    writeSync(this.#orders, `exec 3>${quoted(this.#at('answers'))}\n`);
  }

  run(program: string, args: readonly string[], { cwd = process.cwd(), input = '' }: LaunchOptions): Ended {
    const [out, err] = [this.#at('out'), this.#at('err')];
    const words = [program, ...args];
    let command = `(cd ${quoted(cwd)} && exec ${words.map(quoted).join(' ')}) >${quoted(out)} 2>${quoted(err)} 3>&-`;
    if (input === '') command += ' </dev/null';
    else {
      writeFileSync(this.#at('in'), input);
      command = `cat ${quoted(this.#at('in'))} | ${command}`;
    }
    writeSync(this.#orders, `${command}; echo $? >&3\n`);
    const status = this.#answer(words);
    if (status === NOT_FOUND)
      throw new Error(`${program} is needed for this test, and there is no such program: install Debian's package qemu-utils`);
    return { status: status >= SIGNAL ? -1 : status, stdout: readFileSync(out, 'utf8'), stderr: readFileSync(err, 'utf8') };
  }

  #answer(words: readonly string[]): number {
    const start = performance.now();
    const bytes = Buffer.alloc(16);
    for (let length = 0; !bytes.subarray(0, length).includes('\n'); ) {
      const count = readNow(this.#answers, bytes.subarray(length));
      length += count;
      if (count > 0) continue;
      const taken = performance.now() - start;
      if (taken > MOST_MILLISECONDS) {
        process.kill(-(this.#shell.pid as number), 'SIGKILL');
        launcher = undefined;
        throw new Error(`${words.join(' ')} did not end in ${MOST_MILLISECONDS / 1000} s`);
      }
      Atomics.wait(pause, 0, 0, Math.min(PAUSES.last, Math.max(PAUSES.first, taken * PAUSE_SHARE)));
    }
    return Number.parseInt(bytes.toString('latin1'), 10);
  }

  #at(name: string): string {
    return join(this.#folder, name);
  }
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** What a pipe has at the moment; 0 bytes if there is nothing. */
function readNow(descriptor: number, into: Uint8Array): number {
  try {
    return readSync(descriptor, into);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

let launcher: Launcher | undefined;

/** QEMU's word, where it makes an encrypted image, that its own processor time did not move: on a busy machine the clock of it is too coarse. */
const TOO_BUSY = 'Unable to get accurate CPU usage';
const MOST_TRIES = 10;

/** Runs a program to its end; any status is a result. Throws where there is no such program, and where it hangs. */
export function launch(program: string, args: readonly string[], options: LaunchOptions = {}): Ended {
  for (let tries = 1; ; tries++) {
    launcher ??= new Launcher();
    const ended = launcher.run(program, args, options);
    if (tries === MOST_TRIES || !ended.stderr.includes(TOO_BUSY)) return ended;
  }
}
