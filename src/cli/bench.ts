/** `bench`: sends requests of one size at a regular distance, several at once, and prints how long they took. */
import { type Disk, DiskError } from '../index.ts';
import { printUsage } from './help.ts';
import { cacheMode, namedImage, withImages } from './images.ts';
import { onlyFile } from './info.ts';
import { type Options, parseOptions } from './options.ts';
import { fixed } from './printf.ts';
import { readSize, sizeArgument } from './sizes.ts';
import { Failure, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

const MAX_INT = 2 ** 31 - 1;

interface Plan {
  readonly count: number;
  readonly depth: number;
  /** Bytes. */
  readonly length: number;
  readonly offset: number;
  readonly step: number;
  readonly write: boolean;
  readonly pattern: number;
  /** Requests between two flushes; 0: none. */
  readonly flushInterval: number;
  /** Requests end before a flush begins. */
  readonly drain: boolean;
}

/** Runs `bench`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hc:d:f:ni:o:qs:S:t:wU',
    long: {
      help: 'h',
      'flush-interval': 'flush-interval:',
      'no-drain': 'no-drain',
      pattern: 'pattern:',
      'image-opts': 'image-opts',
      'force-share': 'U',
    },
  });
  if (options.has('h')) return printUsage(terminal, 'bench');
  const plan = readPlan(options);
  const path = onlyFile(options);
  if (plan.flushInterval > 0 && !plan.write) throw new Failure('--flush-interval is only available in write tests');
  if (plan.flushInterval > 0 && plan.flushInterval < plan.depth) throw new Failure("Flush interval can't be smaller than depth");
  const cache = benchCache(options.last('t'));
  const native = options.has('n') || options.last('i') === 'native';
  if (native && cache !== 'none' && cache !== 'directsync')
    throw new Failure(`Could not open '${path}': aio=native was specified, but it requires cache.direct=on, which was not specified.`);
  return withImages(terminal, async (images) => {
    const request = {
      ...namedImage(path, options),
      readOnly: !plan.write,
      cache,
    };
    const { disk } = await images.open(request);
    terminal.out(
      `Sending ${plan.count} ${plan.write ? 'write' : 'read'} requests, ${plan.length} bytes each, ${plan.depth} in parallel ` +
        `(starting at offset ${plan.offset}, step size ${plan.step})\n`,
    );
    if (plan.flushInterval > 0) terminal.out(`Sending flush every ${plan.flushInterval} requests\n`);
    const start = performance.now();
    await attempt(() => send(disk, plan));
    terminal.out(`Run completed in ${fixed((performance.now() - start) / 1000, 3)} seconds.\n`);
    return 0;
  });
}

function readPlan(options: Options): Plan {
  // The way in which requests reach the system makes no difference here.
  const mode = options.last('i');
  if (mode !== undefined && !['threads', 'native', 'io_uring'].includes(mode)) throw new Failure(`Invalid aio option: ${mode}`);
  const length = intSize(options.last('s') ?? '4k', 'buffer size');
  const offset = options.last('o');
  return {
    count: whole(options.last('c') ?? '75000', 'request count', { most: MAX_INT }),
    depth: whole(options.last('d') ?? '64', 'queue depth', { least: 1, most: MAX_INT }),
    length,
    offset: offset === undefined ? 0 : sizeArgument(offset, 'offset'),
    step: intSize(options.last('S') ?? '0', 'step_size') || length,
    write: options.has('w'),
    pattern: whole(options.last('pattern') ?? '0', 'pattern byte', { most: 255 }),
    flushInterval: whole(options.last('flush-interval') ?? '0', 'flush interval', { most: MAX_INT }),
    drain: !options.has('no-drain'),
  };
}

function whole(text: string, what: string, { least = 0, most }: { least?: number; most: number }): number {
  const number = /^(\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : -1;
  if (number < least || number > most) throw new Failure(`Invalid ${what} specified`);
  return number;
}

function intSize(text: string, what: string): number {
  const size = readSize(text);
  if (size === 'not-a-size') return sizeArgument(text, what);
  if (size === 'too-large' || size > MAX_INT) throw new Failure(`Invalid ${what} specified. Must be between 0 and ${MAX_INT}.`);
  return size;
}

function benchCache(text: string | undefined): ReturnType<typeof cacheMode> {
  try {
    return cacheMode(text);
  } catch (error) {
    throw error instanceof Failure ? new Failure('Invalid cache mode') : error;
  }
}

/** Sends everything: `depth` requests are under way at any time, in groups with a flush after each. */
async function send(disk: Disk, plan: Plan): Promise<void> {
  const { count, depth, flushInterval, drain } = plan;
  const group = flushInterval || count;
  const bytes = new Uint8Array(plan.write ? plan.length : 0).fill(plan.pattern);
  const flushes: Promise<void>[] = [];
  let { offset } = plan;
  const request = async (): Promise<void> => {
    const at = offset;
    offset = disk.size <= plan.step ? 0 : (offset + plan.step) % disk.size;
    if (plan.write) await disk.write(at, bytes);
    else await disk.read(at, plan.length);
  };
  for (let sent = 0; sent < count; sent += group) {
    let left = Math.min(group, count - sent);
    const lane = async (): Promise<void> => {
      while (left-- > 0) await request();
    };
    await Promise.all(Array.from({ length: Math.min(depth, left) }, lane));
    if (flushInterval === 0 || sent + group > count) continue;
    flushes.push(disk.flush());
    if (drain) await flushes.at(-1);
  }
  await Promise.all(flushes);
}

async function attempt(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw error instanceof DiskError ? new Failure(`Failed request: ${requestText(error)}`) : error;
  }
}
