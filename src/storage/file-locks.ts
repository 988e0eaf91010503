/**
 * Locks on files, in QEMU's protocol (its block/file-posix.c), so that QEMU sees our locks and we see its: a user that takes permission n locks byte 100 + n
 * for reading, a user that does not share it locks byte 200 + n, and a test for a write lock finds a byte that another user has locked.
 *
 * The locks are Linux's open-file-description locks, for which Node has no call. They belong to the open file and not to a process: a child that
 * inherits our descriptor takes them and ends, and they stay until the file is closed; at the latest the system closes it when our process ends. So a child of
 * a few milliseconds, perl's or else python3's, does what is one system call in QEMU.
 *
 * First all bytes are locked, then the opposite bytes are tested: of two users that come at the same time at least one sees the other. Where no child can
 * do it (`auto`), two other sources are read: the system's table of locks, and the files that this thread has open. Then other programs do not see our locks.
 */
import { spawnSync } from 'node:child_process';
import { fstatSync, readFileSync } from 'node:fs';
import { DiskError } from '../base/errors.ts';
import { ALL, conflict, NOTHING, PERMISSION_NAMES, type Permissions } from '../base/permissions.ts';

/** QEMU's option `locking`: `on` fails where nothing can be locked, `auto` goes on. */
export type Locking = 'auto' | 'on' | 'off';

/** The system's errors if there is no such command, and the error of Node's permission model if no command may run. */
const ABSENT = ['ENOENT', 'EACCES', 'ENOTDIR', 'ERR_ACCESS_DENIED'];

const TAKEN = 100;
const KEPT = 200;
/** Linux's numbers of errors that mean that another user has the byte exclusively. */
const HELD_ALONE = [11, 13];

/**
 * Arguments: bytes to lock, to test, and to unlock at the end. Prints "ok", "held BYTE" or "failed BYTE ERRNO"; unless it prints "ok", all is as before.
 * 36 and 37 are F_OFD_GETLK and F_OFD_SETLK; 0, 1 and 2 are F_RDLCK, F_WRLCK and F_UNLCK; the file is descriptor 3.
 */
const PERL = `
my ($lock, $test, $unlock) = map { [split /,/] } @ARGV;
open(my $file, '+<&=', 3) or exit 1;
my @new;
sub at { pack('s s x4 q q l x4', $_[0], 0, $_[1], 1, 0) }
sub undo { fcntl($file, 37, at(2, $_)) for @new; print "@_"; exit 0 }
for (@$lock) { fcntl($file, 37, at(0, $_)) or undo('failed', $_, $! + 0); push @new, $_ }
for (@$test) {
  my $found = at(1, $_);
  fcntl($file, 36, $found) or undo('failed', $_, $! + 0);
  undo('held', $_) if unpack('s', $found) != 2;
}
fcntl($file, 37, at(2, $_)) for @$unlock;
print 'ok';
`;

const PYTHON = `
import fcntl, struct, sys
lock, test, unlock = [[int(byte) for byte in list.split(',') if byte] for list in sys.argv[1:4]]
new = []
def at(kind, byte): return struct.pack('hh4xqqi4x', kind, 0, byte, 1, 0)
def undo(*words):
    for byte in new: fcntl.fcntl(3, 37, at(2, byte))
    print(*words)
    sys.exit(0)
try:
    for byte in lock:
        fcntl.fcntl(3, 37, at(0, byte))
        new.append(byte)
    for byte in test:
        if struct.unpack_from('h', fcntl.fcntl(3, 36, at(1, byte)))[0] != 2: undo('held', byte)
except OSError as error: undo('failed', byte, error.errno)
for byte in unlock: fcntl.fcntl(3, 37, at(2, byte))
print('ok')
`;

const CHILDREN: readonly (readonly string[])[] = [
  ['perl', '-e', PERL],
  ['python3', '-S', '-E', '-c', PYTHON],
];

/** A file is in use in a way that conflicts with the wanted permissions. */
export class LockedError extends DiskError {
  /** The file, as it was named. */
  readonly path: string;
  /** The lock that could not be taken, as QEMU calls it. */
  readonly lock: string;

  constructor(path: string, lock: string) {
    const advice =
      "close it there, or open it with readOnly and forceShare to read what may be half-written, or with locking: 'off' if you know better";
    super('locked', `${path} is in use by another program, or opened twice here (failed to get ${lock} lock): ${advice}`, { field: 'locking' });
    this.path = path;
    this.lock = lock;
  }
}

/** Where locks cannot be taken: the locks of the files that this thread has open, by inode. */
const openHere = new Map<string, Set<FileLocks>>();

/** The locks of one open file. They are gone when its descriptor is closed. */
export class FileLocks {
  readonly #descriptor: number;
  readonly #path: string;
  readonly #locking: Locking;
  #held: Permissions = NOTHING;
  /** Set once locking was impossible. */
  #inode: string | undefined;

  /** `path` is for messages. */
  constructor(descriptor: number, path: string, locking: Locking) {
    this.#descriptor = descriptor;
    this.#path = path;
    this.#locking = locking;
  }

  /** Takes these permissions in place of those that are held. Throws `locked`, and then nothing changes; `unsupported` under `on`. */
  change(wanted: Permissions): void {
    const held = this.#held;
    if (this.#locking === 'off' || (wanted.take === held.take && wanted.share === held.share)) return;
    const lock = bytesOf({ take: wanted.take & ~held.take, share: ALL & ~(held.share & ~wanted.share) });
    const unlock = bytesOf({ take: held.take & ~wanted.take, share: ALL & ~(wanted.share & ~held.share) });
    // A change that only gives up permissions needs no test: QEMU does not make it either.
    const test = lock.length === 0 ? [] : bytesOf({ take: ALL & ~wanted.share, share: ALL & ~wanted.take });
    // The bytes that others do not share come first: QEMU reports these first.
    test.sort((one, other) => Number(other >= KEPT) - Number(one >= KEPT) || one - other);
    const answer = askChild(this.#descriptor, lock, test, unlock);
    if (answer.held !== undefined) throw new LockedError(this.#path, lockName(answer.held));
    if (answer.done) this.#held = wanted;
    else this.#changeUnseen(wanted);
  }

  /** The descriptor is about to be closed. */
  release(): void {
    if (this.#inode !== undefined) openHere.get(this.#inode)?.delete(this);
  }

  #changeUnseen(wanted: Permissions): void {
    if (this.#locking === 'on')
      throw new DiskError(
        'unsupported',
        `${this.#path} cannot be locked here: that takes Linux and perl or python3 (locking: 'auto' goes on without)`,
        {
          field: 'locking',
        },
      );
    const inode = inodeOf(this.#descriptor);
    const here = openHere.get(inode) ?? new Set();
    const others = [...here].filter((one) => one !== this).map((one) => one.#held);
    for (const held of [...others, seenBySystem(inode)]) {
      const found = conflict(wanted, held);
      if (found) throw new LockedError(this.#path, `${found.shared ? 'shared ' : ''}"${found.name}"`);
    }
    openHere.set(inode, here.add(this));
    this.#inode = inode;
    this.#held = wanted;
  }
}

/** The bytes that stand for the permissions taken and those not shared. */
function bytesOf({ take, share }: Permissions): number[] {
  const bits = (sum: number) => PERMISSION_NAMES.flatMap((_, bit) => ((sum >> bit) & 1 ? [bit] : []));
  return [...bits(take).map((bit) => TAKEN + bit), ...bits(ALL & ~share).map((bit) => KEPT + bit)];
}

/** The name of the lock that cannot be taken where another user has locked this byte. */
const lockName = (byte: number): string => `${byte >= KEPT ? '' : 'shared '}"${PERMISSION_NAMES[byte % 100]}"`;

interface Answer {
  readonly done: boolean;
  /** A byte that another user has locked. */
  readonly held?: number;
}

/** `done` is false without `held` if locking is impossible. */
function askChild(descriptor: number, ...lists: readonly (readonly number[])[]): Answer {
  if (process.platform !== 'linux') return { done: false };
  for (const [command = '', ...args] of CHILDREN) {
    const [word, byte, errno] = outputOf(command, [...args, ...lists.map(String)], descriptor)
      .trim()
      .split(' ');
    if (word === 'ok') return { done: true };
    if (word === 'held') return { done: false, held: Number(byte) };
    // The file system has no locks: another child would not find any either.
    if (word === 'failed') return HELD_ALONE.includes(Number(errno)) ? { done: false, held: opposite(Number(byte)) } : { done: false };
  }
  return { done: false };
}

/** The output of a child that has the file as descriptor 3; empty if there is no such program. */
function outputOf(command: string, args: readonly string[], descriptor: number): string {
  try {
    const { stdout, error } = spawnSync(command, args, { stdio: ['ignore', 'pipe', 'ignore', descriptor], encoding: 'utf8' });
    if (error) throw error;
    return stdout;
  } catch (error) {
    if (ABSENT.includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** A user that has one of our own bytes exclusively counts as one that has its opposite. */
const opposite = (byte: number): number => (byte >= KEPT ? byte - KEPT + TAKEN : byte - TAKEN + KEPT);

/** Device and inode in the form of the system's table of locks. */
function inodeOf(descriptor: number): string {
  const { dev, ino } = fstatSync(descriptor, { bigint: true });
  const hex = (number: bigint) => number.toString(16).padStart(2, '0');
  return `${hex((dev >> 8n) & 0xfffn)}:${hex((dev & 0xffn) | ((dev >> 12n) & 0xfff00n))}:${ino}`;
}

/** The permissions that all others together have of a file, as far as the system shows them. */
function seenBySystem(inode: string): Permissions {
  let table: string;
  try {
    table = readFileSync('/proc/locks', 'latin1');
  } catch {
    return NOTHING;
  }
  let { take, share } = NOTHING;
  for (const [, place, from, to] of table.matchAll(/: OFDLCK +\S+ +\S+ +\S+ (\S+) (\d+) (\d+|EOF)$/gm)) {
    if (place !== inode) continue;
    for (let bit = 0; bit < PERMISSION_NAMES.length; bit++) {
      const covers = (byte: number) => Number(from) <= byte && (to === 'EOF' || byte <= Number(to));
      if (covers(TAKEN + bit)) take |= 1 << bit;
      if (covers(KEPT + bit)) share &= ~(1 << bit);
    }
  }
  return { take, share };
}
