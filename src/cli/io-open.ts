/** How `io` opens its image: the options that the command line and the command `open` share, and `reopen`. */
import type { CacheMode } from '../index.ts';
import { CannotOpen, cacheMode } from './images.ts';
import { type Command, Misused } from './io-command.ts';
import type { Session } from './io-session.ts';
import type { Options } from './options.ts';
import { complain, Failure } from './terminal.ts';

/** Opens what the command line or `open` names; the options -n, -s, -t, -d, -i and -k mean the same in both. */
export async function openFile(
  session: Session,
  path: string,
  options: Options,
  how: { format: string | undefined; readOnly: boolean },
): Promise<boolean> {
  const cache = cacheMode(options.last('t')) ?? (options.has('n') ? 'none' : undefined);
  const discardMode = options.last('d') ?? 'unmap';
  if (!['unmap', 'on', 'ignore', 'off'].includes(discardMode)) throw new Failure(`Invalid discard option: ${discardMode}`);
  const unmap = discardMode === 'unmap' || discardMode === 'on';
  if (needsDirect(options) && cache !== 'none' && cache !== 'directsync') {
    complain(session.terminal, `can't open device ${path}: aio=native was specified, but it requires cache.direct=on, which was not specified.`);
    return false;
  }
  return session.open({ path, ...how, cache, unmap, snapshot: options.has('s'), forceShare: options.has('U') });
}

/** Checks -i and -k, which say how requests reach the system: there is one way here, whatever they say. True for QEMU's "native". */
function needsDirect(options: Options): boolean {
  const mode = options.last('i') ?? (options.has('k') ? 'native' : 'threads');
  if (!['threads', 'native', 'io_uring'].includes(mode)) throw new Failure(`Invalid aio option: ${mode}`);
  return mode === 'native';
}

const open: Command = {
  name: 'open',
  usage: '[-rsCnkU] [-t cache] [-d discard] [-o options] [path]',
  summary: 'open the file specified by path',
  details: `
 -d, -- unmap (discards reach the image) or ignore
 -i, -- threads, native or io_uring: all alike here
 -k, -- short for -i native
 -n, -- short for -t none
 -o, -- driver=FORMAT, for a format that shall not be guessed; read-only=on
 -r, -- open for reading
 -s, -- keep writes in memory and forget them
 -t, -- when writes become durable: a cache mode
`,
  min: 1,
  max: Number.POSITIVE_INFINITY,
  withoutFile: true,
  options: 'rsnkUt:d:o:i:',
  refused: 'C',
  async run(session, options) {
    const driver = driverOptions(options);
    const path = options.rest[0] ?? driver.path;
    if (path === undefined || options.rest.length > 1) throw new Misused();
    return openFile(session, path, options, { format: driver.format, readOnly: options.has('r') || driver.readOnly });
  },
};

interface DriverOptions {
  format: string | undefined;
  path: string | undefined;
  readOnly: boolean;
}

function driverOptions(options: Options): DriverOptions {
  const found: DriverOptions = { format: undefined, path: undefined, readOnly: false };
  for (const [name, value] of pairs(options)) {
    if (name === 'driver') found.format = value;
    else if (name === 'file.filename' || name === 'filename') found.path = value;
    else if (name === 'read-only') found.readOnly = onOrOff(name, value);
    else throw new Failure(`The block driver option '${name}' is not supported yet`);
  }
  return found;
}

function pairs(options: Options): [name: string, value: string][] {
  return options.all('o').flatMap((list) =>
    list.split(',').map((item): [string, string] => {
      const equals = item.indexOf('=');
      return equals < 0 ? [item, 'on'] : [item.slice(0, equals), item.slice(equals + 1)];
    }),
  );
}

function onOrOff(name: string, value: string): boolean {
  if (!['on', 'off', 'yes', 'no', 'true', 'false', 'y', 'n'].includes(value)) throw new Failure(`Parameter '${name}' expects 'on' or 'off'`);
  return ['on', 'yes', 'true', 'y'].includes(value);
}

const reopen: Command = {
  name: 'reopen',
  usage: '[(-r|-w)] [-c cache] [-o options]',
  summary: 'reopens an image with new options',
  details: `
 -c, -- when writes become durable: a cache mode
 -o, -- read-only=on|off, cache.direct=on|off, cache.no-flush=on|off
 -r, -- for reading only
 -w, -- for writing too
`,
  min: 0,
  max: Number.POSITIVE_INFINITY,
  options: 'c:o:rw',
  async run(session, options) {
    const cache = cacheMode(options.last('c'));
    if (options.has('r') && options.has('w')) throw new Failure('Only one -r/-w option may be given');
    if (options.rest.length > 0) throw new Misused();
    const changes = reopenOptions(options, cache);
    try {
      await session.reopen(changes);
      return true;
    } catch (error) {
      if (error instanceof CannotOpen) throw new Failure(error.message);
      throw error;
    }
  },
};

/** What `reopen` may change of an image that is open. */
function reopenOptions(options: Options, cache: CacheMode | undefined): { readOnly?: boolean; cache?: CacheMode } {
  const given = new Map(pairs(options));
  const byLetter = options.has('r') || options.has('w');
  if (byLetter && given.has('read-only')) throw new Failure("Cannot set both -r/-w and 'read-only'");
  const [direct, noFlush] = ['cache.direct', 'cache.no-flush'].map((name) => given.get(name));
  if (cache && (direct !== undefined || noFlush !== undefined)) throw new Failure('Cannot set both -c and the cache options');
  for (const name of given.keys()) {
    if (name === 'lazy-refcounts' || name === 'discard' || name === 'backing')
      throw new Failure(`The block driver option '${name}' is not supported yet`);
    if (!['read-only', 'cache.direct', 'cache.no-flush'].includes(name)) throw new Failure(`Cannot change the option '${name}'`);
  }
  const readOnly = byLetter ? options.has('r') : given.get('read-only');
  const mode = cache ?? cacheOf(direct, noFlush);
  return {
    ...(readOnly === undefined ? {} : { readOnly: typeof readOnly === 'boolean' ? readOnly : onOrOff('read-only', readOnly) }),
    ...(mode ? { cache: mode } : {}),
  };
}

function cacheOf(direct: string | undefined, noFlush: string | undefined): CacheMode | undefined {
  if (noFlush !== undefined && onOrOff('cache.no-flush', noFlush)) return 'unsafe';
  if (direct !== undefined) return onOrOff('cache.direct', direct) ? 'none' : 'writeback';
  return noFlush === undefined ? undefined : 'writeback';
}

/** The commands of this file. */
export const openCommands: readonly Command[] = [open, reopen];
