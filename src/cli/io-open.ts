/** How `io` opens its image: the options that the command line and the command `open` share, and `reopen`. */
import { type CacheMode } from '../index.ts';
import { OptionSet } from '../qemu.ts';
import { CannotOpen, cacheMode, type OpenRequest, readOptions } from './images.ts';
import { type Command, Misused } from './io-command.ts';
import type { Session } from './io-session.ts';
import type { Options } from './options.ts';
import { complain, Failure } from './terminal.ts';

/** Opens the image that the command line or `open` names; the options -n, -s, -t, -d, -i and -k mean the same in both. */
export async function openFile(
  session: Session,
  path: string | undefined,
  options: Options,
  how: Pick<OpenRequest, 'format' | 'options'>,
): Promise<boolean> {
  const cache = cacheMode(options.last('t')) ?? (options.has('n') ? 'none' : 'writethrough');
  const discardMode = options.last('d') ?? 'unmap';
  if (!['unmap', 'on', 'ignore', 'off'].includes(discardMode)) throw new Failure(`Invalid discard option: ${discardMode}`);
  if (needsDirect(options) && cache !== 'none' && cache !== 'directsync') {
    complain(
      session.terminal,
      `can't open${path === undefined ? '' : ` device ${path}`}: aio=native was specified, but it requires cache.direct=on, which was not specified.`,
    );
    return false;
  }
  return session.open({
    ...how,
    path: path ?? 'the image',
    nameless: path === undefined,
    // The image's options decide, if they say it.
    readOnly: options.has('r') && how.options?.get('read-only') !== 'off',
    cache,
    keepSpace: discardMode === 'ignore' || discardMode === 'off',
    copyOnRead: options.has('C'),
    snapshot: options.has('s'),
    forceShare: options.has('U'),
  });
}

/** Checks -i and -k, the ways in which requests reach the system: there is only one way here. True for QEMU's "native". */
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
 -C, -- copy what is read from the backing file into the image
 -o, -- options of the image: driver=FORMAT, file.filename=PATH, read-only=on, ...
 -r, -- open for reading
 -s, -- keep writes in memory and forget them
 -t, -- when writes become durable: a cache mode
`,
  min: 1,
  max: Number.POSITIVE_INFINITY,
  withoutFile: true,
  options: 'rsCnkUt:d:o:i:',
  async run(session, options) {
    const given = optionsOf(session, options.all('o'));
    const [path] = options.rest;
    if ((path === undefined && !given) || options.rest.length > 1) throw new Misused();
    return openFile(session, path, options, { options: given });
  },
};

/** The options of all -o. */
export function optionsOf(session: Session, lists: readonly string[]): OptionSet | undefined {
  if (lists.length === 0) return undefined;
  const warn = (message: string) => complain(session.terminal, message);
  return new OptionSet(lists.flatMap((list) => [...readOptions(list, { warn }).entries()]));
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
 -o, -- options of the image: read-only, cache.direct, cache.no-flush, discard, ...
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

const CHANGEABLE =
  /^(read-only|cache\.direct|cache\.no-flush|discard|detect-zeroes|lazy-refcounts|pass-discard-.*|overlap-check.*|(l2-|refcount-)?cache-size|l2-cache-entry-size|cache-clean-interval)$/;

/** The changes that `reopen` can make to an open image. */
function reopenOptions(options: Options, cache: CacheMode | undefined): { readOnly?: boolean; cache?: CacheMode; options: OptionSet } {
  const given = new Map(pairs(options));
  const byLetter = options.has('r') || options.has('w');
  if (byLetter && given.has('read-only')) throw new Failure("Cannot set both -r/-w and 'read-only'");
  if (cache && (given.has('cache.direct') || given.has('cache.no-flush'))) throw new Failure('Cannot set both -c and the cache options');
  for (const name of given.keys()) {
    if (name === 'backing') throw new Failure(`The block driver option '${name}' is not supported yet`);
    if (!CHANGEABLE.test(name)) throw new Failure(`Cannot change the option '${name}'`);
  }
  const readOnly = byLetter ? options.has('r') : given.get('read-only');
  return {
    ...(readOnly === undefined ? {} : { readOnly: typeof readOnly === 'boolean' ? readOnly : onOrOff('read-only', readOnly) }),
    ...(cache ? { cache } : {}),
    options: new OptionSet([...given].filter(([name]) => name !== 'read-only')),
  };
}

/** The commands of this file. */
export const openCommands: readonly Command[] = [open, reopen];
