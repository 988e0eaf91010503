/**
 * The README's support table, made from the formats' own descriptors: `npm run support-table` writes it between its markers, and
 * a test fails while it is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type DeclaredOption, describeOption } from '../../src/base/declared-options.ts';
import { allFormats } from '../../src/formats/all.ts';
import type { Capabilities, FormatDescriptor } from '../../src/formats/descriptor.ts';
import { TOP } from './project.ts';

const README = join(TOP, 'README.md');
const BLOCK = /(<!-- support table: made by `npm run support-table` -->\n)[\s\S]*?(<!-- end of the support table -->)/;

const COLUMNS: readonly (readonly [title: string, key: keyof Capabilities])[] = [
  ['read', 'read'],
  ['write', 'write'],
  ['create', 'create'],
  ['resize', 'resize'],
  ['snapshots', 'snapshots'],
  ['dirty bitmaps', 'bitmaps'],
  ['backing file', 'backing'],
  ['zero', 'zeroes'],
  ['discard', 'discard'],
  ['check', 'check'],
  ['repair', 'repair'],
  ['compressed: read', 'compressedRead'],
  ['compressed: write', 'compressedWrite'],
  ['data in a second file', 'dataFile'],
  ['compact', 'compact'],
];

const OPTIONS_HEAD = '| option | takes | default | |\n| --- | --- | --- | --- |';

/** The README as it is, and as it should be. */
export function supportTable(): { readonly written: string; readonly current: string } {
  const written = readFileSync(README, 'utf8');
  if (!BLOCK.test(written)) throw new Error('README.md has no place for the support table: its markers are gone');
  return { written, current: written.replace(BLOCK, (_, start: string, end: string) => `${start}\n${tableText()}\n${end}`) };
}

function tableText(): string {
  const opened = allFormats;
  const head = [cells(['', ...opened.map(named)]), cells(['---', ...opened.map(() => '---')])];
  const endings = cells(['file endings', ...opened.map(({ extensions }) => extensions.map((one) => `.${one}`).join(' '))]);
  const rows = COLUMNS.map(([title, key]) => cells([title, ...opened.map(({ capabilities }) => (capabilities[key] ? 'yes' : '-'))]));
  const encryption = cells(['encryption', ...opened.map((format) => (format.encryption?.always ? 'always' : format.encryption ? 'yes' : '-'))]);
  const paragraphs = opened.map(formatDetails).filter((text) => text !== '');
  return [...head, endings, ...rows, encryption, ...paragraphs.flatMap((text) => ['', text]), ''].join('\n');
}

const named = ({ name, title }: FormatDescriptor): string => `${title} (\`${name}\`)`;
const cells = (texts: readonly string[]): string => `| ${texts.join(' | ')} |`;

/** Name, kind with its range, default, help. */
function optionLine(option: DeclaredOption): string {
  const { range, default: value } = describeOption(option);
  const kind = range || (option.kind === 'secret' ? 'text' : option.kind);
  return `| \`${option.name}\` | ${kind} | ${value ?? ''} | ${option.help} |`;
}

function formatDetails({ name, createOptions, limits }: FormatDescriptor): string {
  const options = createOptions.filter(({ said }) => !said).map(optionLine);
  const parts: string[] = [];
  if (options.length > 0) parts.push(`Options of \`${name}\` when an image is created:\n\n${[OPTIONS_HEAD, ...options].join('\n')}`);
  if (limits.length > 0) parts.push(`Refused by name in \`${name}\` for now: ${limits.join('; ')}.`);
  return parts.join('\n\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { written, current } = supportTable();
  if (written !== current) writeFileSync(README, current);
  console.log(written === current ? 'The support table was current.' : 'README.md has a new support table.');
}
