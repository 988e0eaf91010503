/**
 * `-T`/`--trace`, which scripts written for QEMU may pass. tabdisk has no trace events: for each named event it prints the warning that QEMU prints for
 * an unknown name, and the command goes on. A log file (`file=`) would stay empty and is not made.
 */
import { decodeText } from '../qemu.ts';
import { readWhole } from './small-file.ts';
import { Failure, type Terminal } from './terminal.ts';
import { fileText } from './words.ts';

/** Bytes of a list of events. */
const LONGEST_LIST = 1024 * 1024;

/** Reads all `-T` arguments; returns true if one of them only asks for the list of events, which is empty. */
export function readTraceOptions(terminal: Terminal, texts: readonly string[]): boolean {
  return texts.some((text) => {
    const options = traceOptions(text);
    const enabled = options.get('enable') ?? '';
    if (enabled === 'help' || enabled === '?') return true;
    warnOfEvent(terminal, enabled, ' ');
    const list = options.get('events');
    if (list !== undefined) readEventList(terminal, list);
    return false;
  });
}

function traceOptions(text: string): ReadonlyMap<string, string> {
  const options = new Map<string, string>();
  for (const [index, item] of text.split(',').entries()) {
    const equals = item.indexOf('=');
    const name = equals < 0 && index === 0 ? 'enable' : equals < 0 ? item : item.slice(0, equals);
    if (!['enable', 'events', 'file'].includes(name)) throw new Failure(`Invalid parameter '${name}'`);
    options.set(name, item.slice(equals + 1));
  }
  return options;
}

/** One pattern; `place` stands between the program's name and the warning. */
function warnOfEvent(terminal: Terminal, pattern: string, place: string): void {
  const name = pattern.replace(/^-/, '');
  // A pattern without a match is not an error.
  if (name !== '' && !name.includes('*')) terminal.err(`${terminal.program}:${place}warning: trace event '${name}' does not exist\n`);
}

function readEventList(terminal: Terminal, path: string): void {
  let text: string;
  try {
    text = decodeText(readWhole(path, LONGEST_LIST));
  } catch (error) {
    throw new Failure(fileText(error), { place: path });
  }
  for (const [index, line] of text.split('\n').entries()) {
    const name = line.trim();
    if (!name.startsWith('#')) warnOfEvent(terminal, name, `${path}:${index + 1}: `);
  }
}
