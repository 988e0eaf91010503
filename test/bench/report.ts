/**
 * Results as they are kept and shown. They are kept as JSON in test/.cache (not in the repository), row by row, so that runs with
 * `--filter` add up; the README's table is made of what is kept there.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Figure, Group, Row } from './harness.ts';

const TOP = join(import.meta.dirname, '../..');
const KEPT = join(TOP, 'test/.cache/bench.json');
const README = join(TOP, 'README.md');
const BLOCK = /(<!-- benchmark: made by `npm run bench -- --readme` -->\n)[\s\S]*?(<!-- end of the benchmark -->)/;

/** Figures by row, and the machine they were measured on. */
export interface Results {
  /** Processor, cores, memory, kernel, browser. */
  readonly machine: string;
  readonly figures: Readonly<Record<string, Figure>>;
}

/** What a row says in the table: its words, cell by cell. */
export interface Line {
  readonly what: string;
  readonly anchor: string;
  readonly figure: string;
  /** The range that eight in ten rounds are in. */
  readonly range: string;
  readonly target: string;
  /** `met`, `missed`, `not built`, `not measured`; empty for a row without a target. */
  readonly verdict: string;
}

/** Results kept from before; none if they are of another machine. */
export function keptResults(machine?: string): Results | undefined {
  if (!existsSync(KEPT)) return undefined;
  const kept = JSON.parse(readFileSync(KEPT, 'utf8')) as Results;
  return machine === undefined || kept.machine === machine ? kept : undefined;
}

/** Adds rows to those kept. */
export function keep({ machine, figures }: Results): void {
  const before = keptResults(machine)?.figures ?? {};
  mkdirSync(dirname(KEPT), { recursive: true });
  writeFileSync(KEPT, `${JSON.stringify({ machine, figures: { ...before, ...figures } }, null, 2)}\n`);
}

/** A row in words. */
export function lineOf(row: Row, figure: Figure | undefined): Line {
  const unit = row.anchor === undefined ? ` ${row.unit ?? figure?.unit ?? ''}` : '';
  const number = (value: number) => `${digits(value)}${unit}`;
  const target = row.target === undefined ? '' : `≤ ${row.target}${unit}`;
  const line = { what: row.what, anchor: row.anchor ?? '-', target };
  if (row.notBuilt !== undefined) return { ...line, figure: 'not built', range: '', verdict: 'not built' };
  if (!figure) return { ...line, figure: 'not measured', range: '', verdict: 'not measured' };
  const verdict = row.target === undefined ? '' : figure.value <= row.target ? 'met' : 'missed';
  return { ...line, figure: number(figure.value), range: `${digits(figure.low)} - ${digits(figure.high)}`, verdict };
}

const digits = (value: number): string => value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);

/** The table for a terminal, with the two sides' medians. */
export function tableText(groups: readonly Group[], { machine, figures }: Results): string {
  const lines = [machine, 'ratio of each round, ours / anchor, measured in turn: median, and the range that eight in ten rounds are in', ''];
  for (const { name, rows } of groups) {
    lines.push(name);
    for (const row of rows) {
      const figure = figures[row.id];
      const line = lineOf(row, figure);
      const sides = figure?.anchor === undefined ? '' : `${digits(figure.ours)} / ${digits(figure.anchor)} ${figure.unit}`;
      const cells = [line.figure.padStart(13), line.range.padStart(15), line.target.padStart(10), line.verdict.padEnd(12), sides.padStart(22)];
      lines.push(`  ${row.id.padEnd(27)}${cells.join('  ')}  ${row.what}`);
    }
  }
  return lines.join('\n');
}

/** Puts the kept results into the README, between its markers. Returns whether it changed. */
export function writeReadme(groups: readonly Group[]): boolean {
  const kept = keptResults();
  if (!kept) throw new Error('nothing is kept yet: run "npm run bench" first');
  const written = readFileSync(README, 'utf8');
  if (!BLOCK.test(written)) throw new Error('README.md has no place for the benchmark: its markers are gone');
  const current = written.replace(BLOCK, (_, start: string, end: string) => `${start}\n${markdown(groups, kept)}\n${end}`);
  if (current !== written) writeFileSync(README, current);
  return current !== written;
}

/** The table as Markdown: rows with targets only. */
export function markdown(groups: readonly Group[], { machine, figures }: Results): string {
  const rows = groups.flatMap((group) => group.rows).filter(({ target }) => target !== undefined);
  const cells = (texts: readonly string[]) => `| ${texts.join(' | ')} |`;
  return [
    `Measured on ${machine}.`,
    '',
    cells(['what', 'ratio to', 'median', '8 in 10 rounds', 'target', '']),
    cells(Array.from({ length: 6 }, () => '---')),
    ...rows.map((row) => {
      const { what, anchor, figure, range, target, verdict } = lineOf(row, figures[row.id]);
      return cells([what, anchor, figure, range, target, verdict]);
    }),
    '',
  ].join('\n');
}
