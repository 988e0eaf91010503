/** `check`: an image's own consistency. Exit status 0 sound, 1 the check failed, 2 corrupt, 3 leaked space only, 63 no check for this format. */
import { type CheckResult, check, type Disk, DiskError, FINDINGS_AS_ERRORS_FORMAT } from '../index.ts';
import { printUsage } from './help.ts';
import { cacheMode, namedImage, withImages } from './images.ts';
import { onlyFile, outputFormat } from './info.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { fixed, jsonText } from './printf.ts';
import { complain, Failure, misuse, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

type Repair = 'leaks' | 'all';

/** Runs `check`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:r:T:qU',
    long: { help: 'h', format: 'f:', repair: 'r:', output: 'output:', object: 'object:', 'image-opts': 'image-opts', 'force-share': 'U' },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'check');
  const repair = options.last('r');
  if (repair !== undefined && repair !== 'leaks' && repair !== 'all')
    throw misuse(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
  const path = onlyFile(options);
  const output = outputFormat(options);
  const cache = cacheMode(options.last('T'), 'source cache option');
  const quiet = options.has('q');
  return withImages(terminal, async (images) => {
    const how = { readOnly: repair === undefined, repair: repair !== undefined, cache };
    const { disk } = await images.open({ ...namedImage(path, options), ...how });
    const say = (text: string) => {
      if (!quiet && output === 'human') terminal.out(text);
    };
    const result = await checkTwice(terminal, disk, repair, say);
    if (output === 'json') terminal.out(jsonResult(result, path, disk.format));
    else say(humanResult(result));
    if (result.checkErrors > 0) {
      complain(terminal, 'Check failed');
      return 1;
    }
    return result.corruptions > 0 ? 2 : result.leaks > 0 ? 3 : 0;
  });
}

/** After a repair the image is checked again, and the second result decides. */
async function checkTwice(terminal: Terminal, disk: Disk, repair: Repair | undefined, say: (text: string) => void): Promise<CheckResult> {
  const first = await checkOnce(terminal, disk, repair);
  if (first.corruptionsFixed === 0 && first.leaksFixed === 0) return first;
  say('The following inconsistencies were found and repaired:\n\n');
  say(`    ${first.leaksFixed} leaked clusters\n    ${first.corruptionsFixed} corruptions\n\nDouble checking the fixed image now...\n`);
  const second = await checkOnce(terminal, disk, undefined);
  return { ...second, corruptionsFixed: first.corruptionsFixed, leaksFixed: first.leaksFixed };
}

async function checkOnce(terminal: Terminal, disk: Disk, repair: Repair | undefined): Promise<CheckResult> {
  try {
    const onMessage = (message: string) => (disk.format === FINDINGS_AS_ERRORS_FORMAT ? complain(terminal, message) : terminal.err(`${message}\n`));
    return await check(disk, { onMessage, ...(repair ? { repair } : {}) });
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    if (error.kind === 'unsupported' && !error.field) throw new Failure('This image format does not support checks', { status: 63 });
    throw new Failure(`Check failed: ${requestText(error)}`);
  }
}

function humanResult(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, totalClusters: total, allocatedClusters: allocated } = result;
  let text = '';
  if (corruptions + leaks + checkErrors === 0) text += 'No errors were found on the image.\n';
  if (corruptions > 0)
    text += `\n${corruptions} errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n`;
  if (leaks > 0) text += `\n${leaks} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n`;
  if (checkErrors > 0) text += `\n${checkErrors} internal errors have occurred during the check.\n`;
  if (total > 0 && allocated > 0) {
    const percent = (part: number, whole: number) => `${fixed((part * 100) / whole, 2)}%`;
    text += `${allocated}/${total} = ${percent(allocated, total)} allocated, ${percent(result.fragmentedClusters, allocated)} fragmented, `;
    text += `${percent(result.compressedClusters, allocated)} compressed clusters\n`;
  }
  if (result.imageEndOffset > 0) text += `Image end offset: ${result.imageEndOffset}\n`;
  return text;
}

function jsonResult(result: CheckResult, filename: string, format: string): string {
  const always = { filename, format, 'check-errors': result.checkErrors };
  const whereKnown = {
    'image-end-offset': result.imageEndOffset,
    corruptions: result.corruptions,
    leaks: result.leaks,
    'corruptions-fixed': result.corruptionsFixed,
    'leaks-fixed': result.leaksFixed,
    'total-clusters': result.totalClusters,
    'allocated-clusters': result.allocatedClusters,
    'fragmented-clusters': result.fragmentedClusters,
    'compressed-clusters': result.compressedClusters,
  };
  const given = Object.entries(whereKnown).filter(([, value]) => value > 0);
  return `${jsonText({ ...always, ...Object.fromEntries(given) })}\n`;
}
