/** The benchmark's own honesty: what it calls a median, the order in which the sides run, and that a row without a measurement says so. */
import { expect, test } from 'vitest';
import { allGroups } from './groups/all.ts';
import { figureOf, generator, interleave, noise, quantile, type Row, shuffled } from './harness.ts';
import { lineOf, markdown, tableText } from './report.ts';

test('quantiles are values that were measured', () => {
  const values = [9, 1, 5, 3, 7, 2, 8, 4, 6];
  expect([0, 0.1, 0.5, 0.9, 1].map((at) => quantile(values, at))).toEqual([1, 2, 5, 8, 9]);
  expect(values[0]).toBe(9);
  expect(quantile([4], 0.9)).toBe(4);
  expect(quantile([], 0.5)).toBeNaN();
});

test('the two sides run in turn, the first alternates, and the round that warms up does not count', async () => {
  const order: string[] = [];
  const side = (name: string, figure: number) => async (round: number) => {
    order.push(`${name}${round}`);
    return round === 0 ? 1e9 : figure + round;
  };
  const sample = await interleave(3, { anchor: side('a', 10), ours: side('o', 20) });
  expect(order).toEqual(['a0', 'o0', 'o1', 'a1', 'a2', 'o2', 'o3', 'a3']);
  expect(sample).toEqual({ anchor: [11, 12, 13], ours: [21, 22, 23], unit: 'µs' });
});

test('the figure is the median of the ratios of rounds, not the ratio of medians', () => {
  const figure = figureOf({ ours: [2, 30, 6, 8, 100], anchor: [1, 10, 2, 2, 10], unit: 'ms' });
  expect(figure).toEqual({ value: 3, low: 2, high: 10, rounds: 5, ours: 8, anchor: 2, unit: 'ms' });
  expect(figureOf({ ours: [3, 1, 2], unit: 'MiB' })).toEqual({ value: 2, low: 1, high: 3, rounds: 3, ours: 2, unit: 'MiB' });
});

test('a row says whether its target is met, and never has a figure that was not measured', () => {
  const row: Row = { id: 'x', what: 'reading', anchor: 'something', target: 1.25 };
  const figure = (value: number) => figureOf({ ours: [value], anchor: [1], unit: 'µs' });
  expect(lineOf(row, figure(1.25))).toMatchObject({ figure: '1.25', target: '≤ 1.25', verdict: 'met' });
  expect(lineOf(row, figure(1.26)).verdict).toBe('missed');
  expect(lineOf(row, undefined)).toMatchObject({ figure: 'not measured', range: '', verdict: 'not measured' });
  // A figure that was kept from before means nothing once the row says so.
  expect(lineOf({ ...row, notBuilt: 'a cache' }, figure(1))).toMatchObject({ figure: 'not built', range: '', verdict: 'not built' });
  const { target: _, ...aimless } = row;
  expect(lineOf(aimless, figure(7))).toMatchObject({ figure: '7.00', target: '', verdict: '' });
  expect(lineOf({ id: 'y', what: 'size', target: 25, unit: 'kB' }, figureOf({ ours: [120], unit: 'kB' }))).toMatchObject({
    figure: '120 kB',
    target: '≤ 25 kB',
    verdict: 'missed',
  });
});

test('every row has an id of its own and is in both tables', () => {
  const rows = allGroups.flatMap((group) => group.rows);
  expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
  const nothing = { machine: 'a machine', figures: {} };
  const table = tableText(allGroups, nothing);
  const text = markdown(allGroups, nothing);
  for (const { id, what, target } of rows) {
    expect(table).toContain(id);
    if (target !== undefined) expect(text).toContain(`| ${what} |`);
  }
  expect(text).not.toMatch(/\| met \|/);
});

test('bytes and orders are the same in every run', () => {
  expect([...noise(4)]).toEqual([...noise(4)]);
  expect(new Set(noise(4096)).size).toBe(256);
  expect(shuffled(100)).not.toEqual(shuffled(100, 7));
  expect([...shuffled(100)].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index));
  expect(generator(3)()).toBe(generator(3)());
});
