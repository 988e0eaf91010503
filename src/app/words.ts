/** Facts and failures in words, for every panel: sizes, dates, shares, and advice to the reader of an error. */
import { DiskError, type ErrorKind, type FormatFacts, formatSize, type Place } from '../index.ts';

/** Advice about a failure of each kind, if the message alone gives none. */
const ADVICE: Partial<Record<ErrorKind, string>> = {
  'no-space':
    'The browser gives this page no more room. Everything saved before is kept. Delete or export images you no longer need, then try again.',
  lost: 'Export the image now: what it holds is gone once it is closed.',
};

/** A failure in words: the fault, and advice. */
export function failure(error: unknown): string {
  if (!(error instanceof DiskError)) return error instanceof Error ? error.message : String(error);
  if (error.field === 'engine') return 'The part of this page that keeps the disks has ended. What was saved is kept: reload the page.';
  const advice = ADVICE[error.kind];
  if (error.kind === 'no-space' && advice !== undefined) return advice;
  return advice === undefined ? sentence(error.message) : `${sentence(error.message)} ${advice}`;
}

/** Advice, after `failure`, about an image of this browser that could not be read. */
export function readingAdvice(error: unknown): string {
  return error instanceof DiskError && error.kind === 'corrupt' ? ' The image is damaged. Run a check, and export what you can still read.' : '';
}

/** True if the user cancelled it: nothing has to be reported. */
export function isAbort(error: unknown): boolean {
  return error instanceof DiskError && error.kind === 'aborted';
}

/** Whether a part of the page could not be loaded, and its kind: code, which needs a reload of the page, or a file. */
export function missingPart(error: unknown): 'module' | 'file' | undefined {
  if (!(error instanceof DiskError) || error.kind !== 'io') return undefined;
  return error.field === 'module' || error.field === 'file' ? error.field : undefined;
}

/** True if an image did not open because its password is missing or wrong. */
export function isKeyProblem(error: unknown): boolean {
  return error instanceof DiskError && error.kind === 'refused' && /(^|\.)key-secret$/.test(error.field ?? '');
}

/** Throws all errors except the loss of an image. */
export function unlessLost(error: unknown): void {
  if (!(error instanceof DiskError) || error.kind !== 'lost') throw error;
}

/** `text` with each quoted name isolated: a name that is written from right to left would otherwise move the text around it. */
export function isolated(text: string): string {
  return /[\u0590-\u08ff]/.test(text) ? text.replace(/(["“])([^"”]+)(["”])/g, '$1\u2068$2\u2069$3') : text;
}

/** "for VirtualBox (.vdi)". */
export const forProduct = ({ name, title, product = title, extensions: [ending = name] }: FormatFacts): string => `for ${product} (.${ending})`;

/** With a full stop. */
export function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** "2 GiB (2,147,483,648 bytes)". */
export function sizeWithBytes(bytes: number): string {
  return `${formatSize(bytes)} (${count(bytes)} bytes)`;
}

/** A number with separators: "2,147,483,648". */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** "1 cluster", "2 clusters". */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** A share as a percentage; a share above zero is never shown as zero. */
export function share(part: number, whole: number): string {
  if (part === 0 || whole === 0) return '0 %';
  const percent = (part / whole) * 100;
  if (part === whole) return '100 %';
  if (percent < 0.01) return '< 0.01 %';
  return `${percent < 10 ? percent.toFixed(2) : percent.toFixed(1)} %`;
}

/** Local date and time of `milliseconds` since 1970. */
export function dateTime(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** The place of an image, for people. */
export function placeName(place: Place): string {
  return { opfs: 'private file (OPFS)', indexeddb: 'IndexedDB', memory: 'memory of this tab' }[place];
}

/** `placeName` where there is little room. */
export function placeShort(place: Place): string {
  return { opfs: 'OPFS', indexeddb: 'IndexedDB', memory: 'memory' }[place];
}

/** An offset as "0x1f400000". */
export function hex(offset: number): string {
  return `0x${offset.toString(16)}`;
}
