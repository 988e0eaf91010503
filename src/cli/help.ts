/** `--help`: the program's verbs and options, on one screen. */
import { allFormats } from '../index.ts';
import type { Terminal } from './terminal.ts';

const VERBS: Readonly<Record<string, string>> = {
  create: '[-q] [-f FMT] [-o OPTIONS] [-b BACKING -F FMT] [-u] FILE [SIZE]',
  info: '[-f FMT | --image-opts] [--output=human|json] [--backing-chain] [-U] FILE',
  check: '[-q] [-f FMT | --image-opts] [--output=human|json] [-r leaks|all] [-T CACHE] [-U] FILE',
  map: '[-f FMT | --image-opts] [--start-offset=OFFSET] [--max-length=LENGTH] [--output=human|json] [-U] FILE',
  convert:
    '[-c | -C] [-p] [-q] [--salvage] [-n [--target-is-zero]] [--bitmaps [--skip-broken-bitmaps]] [-f FMT | --image-opts] [-O FMT] [-o OPTIONS] [-B BACKING -F FMT] [-l SNAPSHOT] [-S SIZE] [-t CACHE] [-T CACHE] [-m N] [-W] [-r RATE] [-U] FILE... TARGET',
  compare: '[-p] [-q] [-s] [-f FMT | --image-opts] [-F FMT] [-T CACHE] [-U] FILE1 FILE2',
  compact: '[-q] [-p] [-f FMT | --image-opts] FILE',
  commit: '[-q] [-p] [-f FMT | --image-opts] [-t CACHE] [-b BASE] [-d] [-r RATE] FILE',
  rebase: "[-q] [-p] [-u] [-f FMT | --image-opts] [-t CACHE] [-T CACHE] -b BACKING|'' [-F FMT] FILE",
  measure: '[--output=human|json] [-O FMT] [-o OPTIONS] [--size=SIZE | [-f FMT | --image-opts] [-l SNAPSHOT] [-U] FILE]',
  bitmap:
    '(--add | --remove | --clear | --enable | --disable | --merge BITMAP)... [-b SOURCE [-F FMT]] [-g GRANULARITY] [-f FMT | --image-opts] FILE BITMAP',
  dd: '[-f FMT | --image-opts] [-O FMT] [-U] [bs=SIZE] [count=N] [skip=N] if=FILE of=TARGET',
  bench:
    '[-q] [-f FMT | --image-opts] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP] [-o OFFSET] [-w [--pattern=BYTE] [--flush-interval=N [--no-drain]]] [-n] [-i AIO] [-t CACHE] [-U] FILE',
  snapshot: '[-q] [-U] [-l | -a SNAPSHOT | -c NAME | -d NAME] FILE',
  resize: '[-q] [-f FMT | --image-opts] [--shrink] [--preallocation=off|metadata|falloc|full] FILE [+|-]SIZE',
  amend: '[-q] [-p] [--force] [-f FMT | --image-opts] [-t CACHE] -o OPTIONS FILE',
  io: '[-r] [-s] [-n] [-C] [-f FMT | --image-opts] [-t CACHE] [-d MODE] [-i AIO | -k] [-m] [-U] [-T TRACE] [-c COMMAND]... [FILE]',
};

const NOTES = `
FMT is a format; without it the format is found out, and a raw disk keeps some writes from turning it into another.
SIZE, OFFSET and LENGTH are bytes, or a number with k, M, G, T, P or E (powers of 1024). OPTIONS is name=value,...; "-o help" lists them. CACHE is none, writeback, writethrough, directsync or unsafe.
FILE is a name, json:{...}, or with --image-opts driver=FMT,file.filename=NAME,...; layers such as compress, copy-on-read, preallocate and blkverify stand there too.
convert leaves runs of zeros of at least -S bytes (4k) out of the target; -S 0 writes everything. With -c it compresses; with -C it does not look for zeros. RATE is bytes a second. --salvage copies zeros for what cannot be read.
compact writes an image anew without the space that it does not need, checks it, and puts it in the old one's place.
"io" runs commands on the guest's bytes ("-c help" lists them); without -c it reads them from standard input.
`;

/** Prints the usage of one verb or of all; returns exit status 0. */
export function printUsage(terminal: Terminal, verb?: string): number {
  const { program } = terminal;
  if (verb === undefined) terminal.out(`Usage: ${program} COMMAND [OPTION]... FILE...\nVirtual disk images: create, look into, convert, repair.\n\n`);
  else terminal.out('Usage:\n');
  for (const [name, words] of Object.entries(VERBS)) if (verb === undefined || verb === name) terminal.out(`  ${program} ${name} ${words}\n`);
  terminal.out(NOTES);
  const names = allFormats.map(({ name }) => name);
  terminal.out(`Formats: ${names.join(' ')}\n`);
  return 0;
}

/** The same as in package.json. */
export const VERSION = '0.1.0';

/** Prints the program's name and version; returns exit status 0. */
export function printVersion(terminal: Terminal): number {
  terminal.out(`${terminal.program} version ${VERSION}\n`);
  return 0;
}
