/** The commands of `io` that move or change guest bytes: read, write, their vector and asynchronous forms, discard, flush. */
import { DiskError } from '../index.ts';
import { Complaint } from './complaint.ts';
import { attempt, type Command, MAX_REQUEST, Misused, numberArgument, patternArgument } from './io-command.ts';
import { dumpText, type RequestReport, requestReport } from './io-report.ts';
import type { Session } from './io-session.ts';
import type { Options } from './options.ts';
import { readUpTo } from './small-file.ts';
import { complain } from './terminal.ts';
import { fileText } from './words.ts';

const MANY = Number.POSITIVE_INFINITY;
const DEFAULT_PATTERN = 0xcd;

const READ_DETAILS = `
 -C, -- print the statistics as one line for machines
 -P, -- verify that every byte is this one
 -q, -- print no statistics
 -v, -- print the bytes
`;
const WRITE_DETAILS = `
 Without -P, -s or -z the bytes written are 0xcd.
 -C, -- print the statistics as one line for machines
 -f, -- make the bytes durable
 -P, -- write this byte
 -q, -- print no statistics
`;

type Out = (text: string) => void;

/** Prints a request's report, unless -q. */
function tell(out: Out, options: Options, done: Pick<RequestReport, 'what' | 'offset' | 'length' | 'milliseconds'>): void {
  if (!options.has('q')) out(requestReport({ ...done, terse: options.has('C') }));
}

/** Offset and length, and nothing else; `limit` returns the fault of a length above the largest request, if there is one. */
function rangeArguments(options: Options, limit: (text: string) => string | undefined): { offset: number; length: number } {
  const [offsetText, lengthText] = options.rest;
  if (offsetText === undefined || lengthText === undefined || options.rest.length > 2) throw new Misused();
  const offset = numberArgument(offsetText);
  const length = numberArgument(lengthText);
  const tooLong = length > MAX_REQUEST ? limit(lengthText) : undefined;
  if (tooLong !== undefined) throw new Complaint(tooLong);
  return { offset, length };
}

/** Offset, and the sum of one or more lengths. */
function vectorArguments(options: Options): { offset: number; length: number } {
  const [offsetText, ...lengths] = options.rest;
  if (offsetText === undefined || lengths.length === 0) throw new Misused();
  const offset = numberArgument(offsetText);
  let length = 0;
  for (const text of lengths) {
    const part = numberArgument(text);
    length += part;
    if (length > MAX_REQUEST) throw new Complaint(`Argument '${text}' exceeds maximum size ${MAX_REQUEST}`);
  }
  return { offset, length };
}

interface ReadRequest {
  readonly offset: number;
  readonly length: number;
  /** The part to verify, from the request's start. */
  readonly verify: { readonly byte: number; readonly start: number; readonly length: number } | undefined;
  /** Reads from the machine state beside the disk. */
  readonly state?: boolean;
}

async function performRead(
  session: Session,
  options: Options,
  request: ReadRequest,
  { failing, out = session.terminal.out }: { failing: string; out?: Out },
): Promise<boolean> {
  const { offset, length, verify, state } = request;
  const started = performance.now();
  let bytes: Uint8Array = new Uint8Array(0);
  const fetch = async () => {
    bytes = state ? await session.readState(offset, length) : await session.read(offset, length);
  };
  const done = await attempt(session, failing, fetch, out);
  if (!done) return false;
  const milliseconds = performance.now() - started;
  let right = true;
  if (verify) {
    right = bytes.subarray(verify.start, verify.start + verify.length).every((byte) => byte === verify.byte);
    if (!right) out(`Pattern verification failed at offset ${offset + verify.start}, ${verify.length} bytes\n`);
  }
  if (options.has('q')) return right;
  if (options.has('v')) out(dumpText(bytes, offset));
  tell(out, options, { what: 'read', offset, length, milliseconds });
  return right;
}

const wholePattern = (options: Options, length: number): ReadRequest['verify'] => {
  const text = options.last('P');
  return text === undefined ? undefined : { byte: patternArgument(text), start: 0, length };
};

const read: Command = {
  name: 'read',
  usage: '[-abCqv] [-P pattern [-s off] [-l len]] off len',
  summary: 'reads a number of bytes at a specified offset',
  details: `${READ_DETAILS} -b, -- read the machine's state, which lies beside the disk
 -l, -s -- with -P: how much to verify, and from where\n`,
  min: 2,
  max: MANY,
  options: 'bCl:pP:qs:v',
  async run(session, options) {
    const partText = options.last('l');
    const startText = options.last('s');
    const part = partText === undefined ? undefined : numberArgument(partText);
    const pattern = options.last('P');
    const byte = pattern === undefined ? 0 : patternArgument(pattern);
    const start = startText === undefined ? 0 : numberArgument(startText);
    const { offset, length } = rangeArguments(options, (text) => `length cannot exceed ${MAX_REQUEST}, given ${text}`);
    if (pattern === undefined && (part !== undefined || startText !== undefined)) throw new Misused();
    const verified = part ?? length - start;
    if (verified < 0 || start + verified > length) throw new Complaint('pattern verification range exceeds end of read data');
    const verify = pattern === undefined ? undefined : { byte, start, length: verified };
    const state = options.has('b');
    if (state) requireSectors(offset, length);
    return performRead(session, options, { offset, length, verify, state }, { failing: 'read' });
  },
};

const readv: Command = {
  name: 'readv',
  usage: '[-Cqv] [-P pattern] off len [len..]',
  summary: 'reads a number of bytes at a specified offset',
  details: READ_DETAILS,
  min: 2,
  max: MANY,
  options: 'CP:qv',
  async run(session, options) {
    wholePattern(options, 0);
    const { offset, length } = vectorArguments(options);
    return performRead(session, options, { offset, length, verify: wholePattern(options, length) }, { failing: 'readv' });
  },
};

/** -i: a request that would appear only in the statistics, which no command here can show. */
async function injectInvalid(session: Session, what: 'read' | 'write'): Promise<boolean> {
  session.terminal.out(`injecting invalid ${what} request\n`);
  return true;
}

const aioRead: Command = {
  name: 'aio_read',
  beside: true,
  usage: '[-Ciqv] [-P pattern] off len [len..]',
  summary: 'asynchronously reads a number of bytes',
  details: `${READ_DETAILS}\n The report comes when the read is done; the command itself succeeds at once.\n`,
  min: 2,
  max: MANY,
  options: 'CiP:qv',
  async run(session, options) {
    if (options.has('i')) return injectInvalid(session, 'read');
    wholePattern(options, 0);
    const { offset, length } = vectorArguments(options);
    const request = { offset, length, verify: wholePattern(options, length) };
    await session.start((out) => performRead(session, options, request, { failing: 'readv', out }));
    return true;
  },
};

interface WriteRequest {
  readonly offset: number;
  readonly length: number;
  /** The bytes to write; without them, zeros by the image's own means. */
  readonly bytes?: Uint8Array;
  readonly compressed?: boolean;
  /** Writes to the machine state beside the disk. */
  readonly state?: boolean;
}

async function performWrite(
  session: Session,
  options: Options,
  request: WriteRequest,
  { failing, out = session.terminal.out }: { failing: string; out?: Out },
): Promise<boolean> {
  const { offset, length, bytes, compressed, state } = request;
  const started = performance.now();
  const put = async () => {
    if (!bytes) await session.zero(offset, length, { unmap: options.has('u'), fallback: !options.has('n') });
    else if (state) await session.writeState(offset, bytes);
    else if (compressed) await session.writeCompressed(offset, bytes);
    else await session.write(offset, bytes);
    if (options.has('f')) await session.disk?.flush();
  };
  const done = await attempt(session, failing, put, out);
  if (done) tell(out, options, { what: 'wrote', offset, length, milliseconds: performance.now() - started });
  return done;
}

function patternBytes(options: Options, length: number): Uint8Array {
  const text = options.last('P');
  return new Uint8Array(length).fill(text === undefined ? DEFAULT_PATTERN : patternArgument(text));
}

const write: Command = {
  name: 'write',
  usage: '[-bcCfnquz] [-P pattern | -s source_file] off len',
  summary: 'writes a number of bytes at a specified offset',
  details: `${WRITE_DETAILS} -b, -- write the machine's state, which lies beside the disk
 -c, -- compress what is written: whole clusters that hold nothing yet
 -n, -- with -z: fail rather than write zeros as data
 -p, -- ignored
 -s, -- write this file's bytes, again and again
 -u, -- with -z: give the space back where the image can
 -z, -- write zeros by the image's own means
`,
  min: 2,
  max: MANY,
  writes: true,
  options: 'bcCfnpP:qs:uz',
  async run(session, options) {
    const pattern = options.last('P');
    if (pattern !== undefined) patternArgument(pattern);
    if (options.rest.length !== 2) throw new Misused();
    refuseCombinations(options);
    const { offset, length } = rangeArguments(options, (text) =>
      options.has('n') ? undefined : `length cannot exceed ${MAX_REQUEST} without -n, given ${text}`,
    );
    const state = options.has('b');
    const compressed = options.has('c');
    if (state || compressed) requireSectors(offset, length);
    if (options.has('z')) return performWrite(session, options, { offset, length }, { failing: 'write' });
    const file = options.last('s');
    const bytes = file === undefined ? patternBytes(options, length) : fileBytes(session, file, length);
    return bytes ? performWrite(session, options, { offset, length, bytes, compressed, state }, { failing: 'write' }) : false;
  },
};

function refuseCombinations(options: Options): void {
  if (options.has('b') && options.has('z')) throw new Complaint('-b and -z cannot be specified at the same time');
  if (options.has('f') && (options.has('b') || options.has('c'))) throw new Complaint('-f and -b or -c cannot be specified at the same time');
  if (options.has('n') && !options.has('z')) throw new Complaint('-n requires -z to be specified');
  if (options.has('u') && !options.has('z')) throw new Complaint('-u requires -z to be specified');
  if (['z', 'P', 's'].filter((letter) => options.has(letter)).length > 1)
    throw new Complaint('Only one of -z, -P, and -s can be specified at the same time');
}

function requireSectors(offset: number, length: number): void {
  for (const [name, value] of Object.entries({ offset, count: length }))
    if (value % 512 !== 0) throw new Complaint(`${value} is not a sector-aligned value for '${name}'`);
}

/** A file's contents repeated to this length. */
function fileBytes(session: Session, file: string, length: number): Uint8Array | undefined {
  let contents: Uint8Array;
  try {
    contents = readUpTo(file, length);
  } catch (error) {
    session.terminal.err(`${file}: ${fileText(error)}\n`);
    return undefined;
  }
  if (contents.length === 0) {
    session.terminal.err(`${file}: file is empty\n`);
    return undefined;
  }
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += contents.length) bytes.set(contents.subarray(0, length - at), at);
  return bytes;
}

const writev: Command = {
  name: 'writev',
  usage: '[-Cfq] [-P pattern] off len [len..]',
  summary: 'writes a number of bytes at a specified offset',
  details: WRITE_DETAILS,
  min: 2,
  max: MANY,
  writes: true,
  options: 'CfP:q',
  async run(session, options) {
    patternBytes(options, 0);
    const { offset, length } = vectorArguments(options);
    return performWrite(session, options, { offset, length, bytes: patternBytes(options, length) }, { failing: 'writev' });
  },
};

const aioWrite: Command = {
  name: 'aio_write',
  beside: true,
  usage: '[-Cfiquz] [-P pattern] off len [len..]',
  summary: 'asynchronously writes a number of bytes',
  details: `${WRITE_DETAILS} -u, -z -- as for write\n\n The report comes when the write is done; the command itself succeeds at once.\n`,
  min: 2,
  max: MANY,
  writes: true,
  options: 'CfiP:quz',
  async run(session, options) {
    if (options.has('i')) return injectInvalid(session, 'write');
    patternBytes(options, 0);
    if (options.rest.length < 2) throw new Misused();
    if (options.has('z') && options.rest.length !== 2) throw new Complaint('-z supports only a single length parameter');
    if (options.has('u') && !options.has('z')) throw new Complaint('-u requires -z to be specified');
    const { offset, length } = vectorArguments(options);
    const request = options.has('z') ? { offset, length } : { offset, length, bytes: patternBytes(options, length) };
    await session.start((out) => performWrite(session, options, request, { failing: 'aio_write', out }));
    return true;
  },
};

const aioFlush: Command = {
  name: 'aio_flush',
  usage: '',
  summary: 'completes all outstanding aio requests',
  min: 0,
  max: 0,
  async run(session) {
    await session.settle();
    return true;
  },
};

const flush: Command = {
  name: 'flush',
  usage: '',
  summary: 'flush all in-core file state to disk',
  min: 0,
  max: 0,
  async run(session) {
    try {
      await session.disk?.flush();
      return true;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      complain(session.terminal, error.message);
      return false;
    }
  },
};

const discard: Command = {
  name: 'discard',
  usage: '[-Cq] off len',
  summary: 'discards a number of bytes at a specified offset',
  details: '\n -C, -- print the statistics as one line for machines\n -q, -- print no statistics\n',
  min: 2,
  max: MANY,
  writes: true,
  options: 'Cq',
  async run(session, options) {
    const { offset, length } = rangeArguments(options, (text) => `length cannot exceed ${MAX_REQUEST}, given ${text}`);
    const started = performance.now();
    const done = await attempt(session, 'discard', () => session.discard(offset, length));
    if (done) tell(session.terminal.out, options, { what: 'discard', offset, length, milliseconds: performance.now() - started });
    return done;
  },
};

/** In the order of `help`. */
export const requestCommands: readonly Command[] = [aioFlush, aioRead, aioWrite, discard, flush, read, readv, write, writev];
