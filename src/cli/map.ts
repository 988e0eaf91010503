/** `map`: where the guest's bytes are, run by run: as a table of the data that is stored in files unchanged, or all of it as JSON. */
import { DiskError, type MapRun } from '../index.ts';
import { printUsage } from './help.ts';
import { namedImage, type OpenImage, withImages } from './images.ts';
import { onlyFile, outputFormat } from './info.ts';
import { takeObjects } from './objects.ts';
import { parseOptions } from './options.ts';
import { sizeArgument, wholeSectors } from './sizes.ts';
import { Failure, type Terminal } from './terminal.ts';
import { requestText } from './words.ts';

/** Characters of lines that wait to be printed. */
const MOST_KEPT = 16 * 1024;

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
    const image = await images.open({
      ...namedImage(path, options),
      readOnly: true,
    });
    const lines = new Lines(terminal);
    try {
      if (output === 'json') await printJson(lines, image, start, length);
      else await printTable(lines, image, start, length);
      return 0;
    } catch (error) {
      throw error instanceof DiskError ? new Failure(`Could not read file metadata: ${requestText(error)}`) : error;
    } finally {
      lines.print();
    }
  });
}

async function printTable(lines: Lines, image: OpenImage, start: number, length: number): Promise<void> {
  lines.add(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File\n`);
  const hex = (value: number) => (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16);
  for await (const entry of entries(image, start, length)) {
    if (entry.data && entry.offset === undefined) throw new Failure('File contains external, encrypted or compressed clusters.');
    if (entry.data && !entry.zero)
      lines.add(`${hex(entry.start)}${hex(entry.length)}${hex(entry.offset ?? 0)}${entry.file ?? image.disk.shownFiles[entry.depth]}\n`);
  }
}

/** Lines that are printed many at a time: printing takes longer than finding a run. */
class Lines {
  readonly #terminal: Terminal;
  #text = '';

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  add(line: string): void {
    this.#text += line;
    if (this.#text.length >= MOST_KEPT) this.print();
  }

  print(): void {
    if (this.#text !== '') this.#terminal.out(this.#text);
    this.#text = '';
  }
}

async function printJson(lines: Lines, image: OpenImage, start: number, length: number): Promise<void> {
  lines.add('[');
  const end = Math.min(start + length, wholeSectors(image.disk.size));
  // A disk without bytes still has one entry, as in QEMU.
  if (end <= start) lines.add(`${jsonEntry({ start, length: 0, depth: 0, present: false, zero: false, data: false })}]\n`);
  for await (const entry of entries(image, start, length)) lines.add(`${jsonEntry(entry)}${entry.start + entry.length < end ? ',' : ']'}\n`);
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
