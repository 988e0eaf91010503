/** `compare`: whether two images read the same. Exit status 0 yes, 1 no, 2 one did not open, 3 a state and 4 a content could not be read. */
import { type CompareResult, compare, DiskError } from '../index.ts';
import { printUsage } from './help.ts';
import { cacheMode, type OpenImage, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { Progress } from './progress.ts';
import { wholeSectors } from './sizes.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

/** Runs `compare`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:F:T:pqsU',
    long: { help: 'h', object: 'object:', 'image-opts': 'image-opts', 'force-share': 'U' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'compare');
  const [one, other] = options.rest;
  if (one === undefined || other === undefined || options.rest.length > 2) throw misuse('Expecting two image file names');
  const cache = cacheMode(options.last('T'), 'source cache option', 2);
  const quiet = options.has('q');
  const say = (text: string) => {
    if (!quiet) terminal.out(text);
  };
  const progress = new Progress(terminal, options.has('p') && !quiet);
  try {
    return await withImages(terminal, async (images) => {
      const a = await images.open(
        { path: one, format: options.last('f'), imageOpts: options.has('image-opts'), readOnly: true, forceShare: options.has('U'), cache },
        2,
      );
      const b = await images.open(
        { path: other, format: options.last('F'), imageOpts: options.has('image-opts'), readOnly: true, forceShare: options.has('U'), cache },
        2,
      );
      progress.start();
      const result = await comparison(a, b, options.has('s'), progress);
      return tell(result, say);
    });
  } finally {
    progress.end();
  }
}

async function comparison(a: OpenImage, b: OpenImage, strict: boolean, progress: Progress): Promise<CompareResult> {
  // QEMU counts whole sectors: raw files whose sizes differ within one are of one size.
  const [one, other] = [wholeSectors(a.disk.size), wholeSectors(b.disk.size)];
  try {
    const result = await compare(a.disk, b.disk, { strict, everyStep: true, onProgress: progress.update });
    // The warning comes after the common part was found equal, so not if that differs.
    const sizesDiffer = one !== other && (result.reason !== 'content' || (result.offset ?? 0) >= Math.min(one, other));
    return { ...result, sizesDiffer };
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    const { step } = error;
    const { path } = step === 'second' || step === 'second status' ? b : a;
    if (step === 'first status' || step === 'second status') throw new Failure(`Sector allocation test failed for ${path}`, { status: 3 });
    throw new Failure(`Error while reading offset ${error.offset} of ${path}: ${requestText(error)}`, { status: 4 });
  }
}

function tell({ identical, reason, offset, sizesDiffer }: CompareResult, say: (text: string) => void): number {
  if (reason === 'size') say('Strict mode: Image size mismatch!\n');
  else if (reason === 'status') say(`Strict mode: Offset ${offset} block status mismatch!\n`);
  else {
    if (sizesDiffer) say('Warning: Image size mismatch!\n');
    if (!identical) say(`Content mismatch at offset ${offset}!\n`);
  }
  if (!identical) return 1;
  say('Images are identical.\n');
  return 0;
}
