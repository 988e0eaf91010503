/** `map`: where the guest's bytes are, run by run: as a table of the data that lies in files as it is, or all of it as JSON. */
import { DiskError, type MapRun } from '../index.ts';
import { printUsage } from './help.ts';
import { type OpenImage, withImages } from './images.ts';
import { onlyFile, outputFormat } from './info.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { sizeArgument, wholeSectors } from './sizes.ts';
import { Failure, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

/** A run as it is printed. */
type Entry = Pick<MapRun, 'start' | 'length' | 'depth' | 'present' | 'zero' | 'data' | 'offset' | 'file'>;

/** Runs `map`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'f:s:l:hU',
    long: {
      help: 'h',
      format: 'f:',
      output: 'output:',
      object: 'object:',
      'image-opts': 'image-opts',
      'force-share': 'U',
      'start-offset': 's:',
      'max-length': 'l:',
    },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'map');
  const startText = options.last('s');
  const lengthText = options.last('l');
  const start = startText === undefined ? 0 : sizeArgument(startText, 'start offset');
  const length = lengthText === undefined ? Number.MAX_SAFE_INTEGER : sizeArgument(lengthText, 'max length');
  const path = onlyFile(options);
  const output = outputFormat(options);
  return withImages(terminal, async (images) => {
    const image = await images.open({ path, format: options.last('f'), imageOpts: options.has('image-opts'), readOnly: true });
    try {
      if (output === 'json') await printJson(terminal, image, start, length);
      else await printTable(terminal, image, start, length);
      return 0;
    } catch (error) {
      throw error instanceof DiskError ? new Failure(`Could not read file metadata: ${requestText(error)}`) : error;
    }
  });
}

async function printTable(terminal: Terminal, image: OpenImage, start: number, length: number): Promise<void> {
  terminal.out(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File\n`);
  const hex = (value: number) => (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16);
  for await (const entry of entries(image, start, length)) {
    if (entry.data && entry.offset === undefined) throw new Failure('File contains external, encrypted or compressed clusters.');
    if (entry.data && !entry.zero)
      terminal.out(`${hex(entry.start)}${hex(entry.length)}${hex(entry.offset ?? 0)}${entry.file ?? image.disk.shownFiles[entry.depth]}\n`);
  }
}

async function printJson(terminal: Terminal, image: OpenImage, start: number, length: number): Promise<void> {
  terminal.out('[');
  const end = Math.min(start + length, wholeSectors(image.disk.size));
  // A disk of no bytes still has one entry, as QEMU prints it.
  if (end <= start) terminal.out(`${jsonEntry({ start, length: 0, depth: 0, present: false, zero: false, data: false })}]\n`);
  for await (const entry of entries(image, start, length)) terminal.out(`${jsonEntry(entry)}${entry.start + entry.length < end ? ',' : ']'}\n`);
}

function jsonEntry({ start, length, depth, present, zero, data, offset }: Entry): string {
  const place = offset === undefined ? '' : `, "offset": ${offset}`;
  return `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, "zero": ${zero}, "data": ${data}${place}}`;
}

/** The runs from `start`; a last part of a sector that the file does not have counts as zero, as QEMU sees it. */
async function* entries({ disk }: OpenImage, start: number, length: number): AsyncIterableIterator<Entry> {
  const { size } = disk;
  const end = start + length;
  if (start < size) yield* disk.map(start, Math.min(size, end) - start);
  const rounded = wholeSectors(size);
  const from = Math.max(size, start);
  const to = Math.min(rounded, end);
  if (from < to) yield { start: from, length: to - from, depth: 0, present: true, zero: true, data: false, offset: from };
}
