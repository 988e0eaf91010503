/** Command lines made by chance out of the verbs' grammars, with hostile names, sizes and options. */
import type { Random } from '../random.ts';

/** Files of the folder that a case runs in; see `command-line.ts`. */
const FILES = ['a.raw', 's.qcow2', 'top.qcow2', 'mid.qcow2', 'snap.qcow2', 'crypt.luks', 'broken.qcow2', 'cycle.qcow2', 'odd.raw'];
const LONG = 'n'.repeat(300);
const NAMES = [
  '',
  ' ',
  '.',
  '..',
  '/',
  './',
  'folder',
  'folder/',
  'pipe',
  'loop',
  'dangling',
  'a.raw/x',
  's.qcow2/',
  'nofile',
  'folder/nofile',
  'no/where',
  '/dev/null',
  '/dev/full',
  '/dev/zero',
  '/dev/stdin',
  '/proc/self/mem',
  '/proc/self/fd/99',
  '/proc/cpuinfo',
  LONG,
  `d/`.repeat(2500),
  'a\0b',
  '\0',
  'a\nb',
  'tab\tand\x1b[31mred',
  'ä ö',
  '\u{1f600}',
  '\ud800',
  'a\udcffb',
  '%s%n',
  "'",
  '"',
  '\\',
  '-',
  '--',
  '-f',
  'a,b',
  'a=b',
  '__proto__',
  'constructor',
  'toString',
  'file:',
  'file:a.raw',
  'file:folder',
  'file:\0',
  'nbd:x',
  'http://x/y',
  'x:y',
  ':',
  '::',
  'null-co://',
  'null-co://x',
  'blkdebug::a.raw',
  'blkdebug:nofile:a.raw',
  'blkdebug:a.raw:a.raw',
  'blkverify:a.raw:odd.raw',
  'blkverify::',
  'fat:folder',
  'json:',
  'json:{',
  'json:{}',
  'json:[]',
  'json:null',
  "json:{'driver':'raw'}",
  'json:{"driver":"qcow2","file":{"driver":"file","filename":"s.qcow2"}}',
  'json:{"driver":"raw","file":{"driver":"file","filename":"a\\u0000b"}}',
  'json:{"file.filename":"a.raw","driver":"raw","offset":"x"}',
  'json:{"driver":"quorum","children":[]}',
  'json:{"__proto__":1}',
  `json:${'['.repeat(3000)}`,
  `json:${'{"file":'.repeat(1500)}`,
  'json:{"driver":"null-co","size":1e300}',
  'json:{"driver":"null-co","size":9223372036854775807}',
  'json:{"driver":"raw","file":"x"}',
  'json:{"driver":5}',
  'driver=raw,file.filename=a.raw',
  'driver=qcow2,file.filename=top.qcow2,backing.file.filename=a.raw',
  'driver=qcow2',
  'driver=nope,x=y',
  'file.file.file.file=x',
  'driver=throttle,throttle-group=g,file.filename=a.raw',
  `x${',a=b'.repeat(2000)}`,
  'driver=quorum,vote-threshold=2,children.0.file.filename=a.raw,children.1.file.filename=odd.raw',
  'driver=raw,offset=512,size=1k,file.filename=a.raw',
] as const;
const SIZES = [
  '0',
  '1',
  '511',
  '512',
  '1k',
  '4k',
  '64k',
  '1M',
  '1.5k',
  '0x200',
  '010',
  '-1',
  '-',
  '',
  'x',
  '1x',
  'k',
  '1 k',
  '1e3',
  '1e400',
  'inf',
  'nan',
  'NaN',
  '9007199254740993',
  '18446744073709551615',
  '18446744073709551616',
  '9223372036854775807',
  '8E',
  '7E',
  '16T',
  '1P',
  '0.0000001',
  '.5k',
  '1k1',
  '99999999999999999999999',
  '٣',
  '１',
];
const NUMBERS = ['0', '1', '2', '16', '17', '255', '256', '-1', 'x', '', '1e3', '4294967296', '0x10', '99999999999999999999'];
const WORDS = [
  '',
  'x',
  'help',
  '?',
  'raw',
  'qcow2',
  'luks',
  'nope',
  'vmdk',
  'vvfat',
  'host_device',
  'file',
  'quorum',
  '__proto__',
  'constructor',
  'hasOwnProperty',
  LONG,
  '\0',
  'ä',
  '\ud800',
  'on',
  'off',
];
const CACHES = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe', 'x', '', '__proto__'];
const OPTIONS = [
  'size',
  'cluster_size',
  'refcount_bits',
  'compat',
  'backing_file',
  'backing_fmt',
  'data_file',
  'data_file_raw',
  'lazy_refcounts',
  'extended_l2',
  'compression_type',
  'encryption',
  'encrypt.format',
  'encrypt.key-secret',
  'encrypt.iter-time',
  'key-secret',
  'cipher-alg',
  'hash-alg',
  'ivgen-alg',
  'nocow',
  '__proto__',
  'constructor',
  'x',
  '',
  'new-secret',
  'encrypt.keyslot',
  'state',
  'preallocation',
];
const OBJECTS = [
  'secret,id=s,data=passphrase',
  'secret,id=s,file=nofile',
  'secret,id=s,file=folder',
  'secret,id=s,file=/dev/zero',
  'secret,id=s',
  'secret',
  '',
  'x,id=s',
  '{',
  '{}',
  '{"qom-type":"secret","id":"s","data":"x"}',
  'throttle-group,id=g,limits.iops-total=1e9',
  'throttle-group,id=g,x=y',
  'secret,id=1,data=x',
  'secret,id=s,format=base64,data=%%%',
  'secret,id=s,file=a\0b',
  '__proto__',
];
const SNAPSHOTS = ['one', 'two', '1', '', 'nope', 'snapshot.id=1', 'snapshot.name=one,snapshot.id=9', 'snapshot.x=1', 'ä\0', LONG, '__proto__'];
const IO = [
  'read',
  'readv',
  'write',
  'writev',
  'aio_read',
  'aio_write',
  'aio_flush',
  'flush',
  'discard',
  'truncate',
  'length',
  'info',
  'map',
  'alloc',
  'open',
  'close',
  'reopen',
  'help',
  'quit',
  'nope',
  '__proto__',
  'break',
  'resume',
  'remove_break',
  'wait_break',
  'sleep',
];
const IO_WORDS = [
  '-P',
  '-C',
  '-f',
  '-q',
  '-v',
  '-z',
  '-u',
  '-n',
  '-b',
  '-c',
  '-s',
  '-l',
  '-p',
  '-r',
  '-w',
  '-o',
  '-i',
  '-t',
  '-U',
  '--',
  'read-only=on',
  'driver=raw',
  'cache.direct=on',
  'x=y',
  'pwritev',
  'read_aio',
  'A',
];

type Maker = (random: Random) => string;
const from =
  (list: readonly string[]): Maker =>
  (random) =>
    random.pick(list);
const size: Maker = from(SIZES);
const word: Maker = from(WORDS);
const file: Maker = (random) => (random.chance(0.6) ? random.pick(FILES) : random.pick(NAMES));
const option: Maker = (random) => {
  const value = random.pick([size, word, file, from(NUMBERS), from(['0.10', '1.1', 'v3', 'zstd', 'luks', 'aes', 's', 'metadata'])])(random);
  return random.chance(0.1) ? random.pick([word, file])(random) : `${random.pick(OPTIONS)}=${value}`;
};
const list: Maker = (random) => Array.from({ length: random.between(1, 3) }, () => option(random)).join(random.chance(0.9) ? ',' : ',,');
const event: Maker = (random) =>
  random.pick(
    ['x', 'enable=x', 'help', 'events=nofile', 'events=a.raw', 'events=folder', 'events=/dev/zero', 'file=x', '', 'x=y'].concat(random.pick(NAMES)),
  );

interface Grammar {
  readonly flags: readonly string[];
  readonly valued: Readonly<Record<string, Maker>>;
  /** What stands without an option, in order. */
  readonly rest: readonly Maker[];
}

const COMMON = { '-f': word, '--object': from(OBJECTS) };
const IMAGE = ['--image-opts', '-U', '-q'];
const OUTPUT = from(['json', 'human', 'x', '']);

const GRAMMARS: Readonly<Record<string, Grammar>> = {
  create: { flags: ['-q', '-u'], valued: { ...COMMON, '-o': list, '-b': file, '-F': word }, rest: [file, size] },
  info: { flags: [...IMAGE, '--backing-chain'], valued: { ...COMMON, '--output': OUTPUT }, rest: [file] },
  check: { flags: IMAGE, valued: { ...COMMON, '--output': OUTPUT, '-r': from(['leaks', 'all', 'x']), '-T': from(CACHES) }, rest: [file] },
  map: { flags: IMAGE, valued: { ...COMMON, '--output': OUTPUT, '-s': size, '-l': size }, rest: [file] },
  convert: {
    flags: [...IMAGE, '-c', '-C', '-p', '-n', '-W', '--salvage', '--bitmaps', '--skip-broken-bitmaps', '--target-is-zero', '--target-image-opts'],
    valued: {
      ...COMMON,
      '-O': word,
      '-o': list,
      '-B': file,
      '-F': word,
      '-l': from(SNAPSHOTS),
      '-S': size,
      '-t': from(CACHES),
      '-T': from(CACHES),
      '-m': from(NUMBERS),
    },
    rest: [file, file],
  },
  compare: { flags: [...IMAGE, '-p', '-s'], valued: { ...COMMON, '-F': word, '-T': from(CACHES) }, rest: [file, file] },
  commit: { flags: [...IMAGE, '-d', '-p'], valued: { ...COMMON, '-b': file, '-t': from(CACHES) }, rest: [file] },
  rebase: { flags: [...IMAGE, '-u', '-p'], valued: { ...COMMON, '-b': file, '-F': word, '-t': from(CACHES), '-T': from(CACHES) }, rest: [file] },
  measure: { flags: IMAGE, valued: { ...COMMON, '-O': word, '-o': list, '--size': size, '-l': from(SNAPSHOTS), '--output': OUTPUT }, rest: [file] },
  bitmap: {
    flags: [...IMAGE, '--add', '--remove', '--clear', '--enable', '--disable'],
    valued: { ...COMMON, '--merge': word, '-b': file, '-F': word, '-g': size },
    rest: [file, word],
  },
  dd: {
    flags: IMAGE,
    valued: { ...COMMON, '-O': word },
    rest: [
      (random) => `if=${file(random)}`,
      (random) => `of=${file(random)}`,
      (random) => random.pick([`bs=${random.pick(['512', '4k', '1M', 'x', '0', '-1', '4G'])}`, `count=${size(random)}`, `skip=${size(random)}`]),
    ],
  },
  bench: {
    flags: [...IMAGE, '-w', '-n', '--no-drain'],
    valued: {
      ...COMMON,
      '-c': from(['1', '9', 'x', '-1']),
      '-d': from(['1', '3', '0', 'x']),
      '-s': size,
      '-S': size,
      '-o': size,
      '-t': from(CACHES),
      '-i': word,
      '--pattern': from(NUMBERS),
      '--flush-interval': from(NUMBERS),
    },
    rest: [() => '-c', () => '5', file],
  },
  snapshot: { flags: [...IMAGE, '-l'], valued: { '-a': from(SNAPSHOTS), '-c': from(SNAPSHOTS), '-d': from(SNAPSHOTS) }, rest: [file] },
  resize: {
    flags: [...IMAGE, '--shrink'],
    valued: { ...COMMON, '--preallocation': word },
    rest: [file, (random) => random.pick(['', '+', '-']) + size(random)],
  },
  amend: { flags: [...IMAGE, '-p', '--force'], valued: { ...COMMON, '-o': list, '-t': from(CACHES) }, rest: [file] },
  io: {
    flags: ['-r', '-s', '-n', '-C', '-m', '-k', '-U', '--image-opts'],
    valued: { ...COMMON, '-c': ioCommand, '-t': from(CACHES), '-d': word, '-i': word, '-T': event },
    rest: [() => '-c', ioCommand, file],
  },
};

/** A command of `io`. Nothing in it waits for long, or runs over terabytes. */
function ioCommand(random: Random): string {
  const name = random.pick(IO);
  if (name === 'sleep') return 'sleep 1';
  if (name === 'truncate') return `truncate ${random.pick(['0', '1', '512', '100k', 'x', '-1', '8E', '99999999999999999999'])}`;
  const words = Array.from({ length: random.between(0, 5) }, () => random.pick([from(IO_WORDS), size, size, from(NUMBERS), file])(random));
  return [name, ...words].join(' ');
}

/** What would write, or reserve, terabytes: no fault, but no case either. */
const LARGE = /preallocation=(metadata|full|falloc)|--preallocation/;

/** The words behind the program's name. */
export function commandLine(random: Random): string[] {
  for (;;) {
    const words = wordsOf(random);
    if (!words.some((word) => LARGE.test(word))) return words;
  }
}

function wordsOf(random: Random): string[] {
  if (random.chance(0.02))
    return Array.from({ length: random.between(0, 3) }, () => random.pick([word, file, event, () => '-T', () => '-V'])(random));
  const verb = random.pick(Object.keys(GRAMMARS));
  const { flags, valued, rest } = GRAMMARS[verb] as Grammar;
  const words = rest.map((make) => make(random));
  for (let more = random.between(0, 4); more > 0; more--) {
    const place = random.between(0, words.length);
    const letter = random.pick(Object.keys(valued));
    if (random.chance(0.4)) words.splice(place, 0, random.pick(flags));
    else words.splice(place, 0, letter, (valued[letter] as Maker)(random));
  }
  // A word too many, too few, or where it does not belong.
  if (random.chance(0.05)) words.splice(random.between(0, words.length), random.between(0, 1), ...(random.chance(0.5) ? [file(random)] : []));
  return [verb, ...words];
}
