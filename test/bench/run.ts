/**
 * `npm run bench`: what the engine costs, each row a ratio to an anchor measured in the same run, in turn (harness.ts). Rows that need a
 * browser run in real Chromium with a profile on disk.
 *
 *   npm run bench -- [--filter text] [--rounds 11] [--json] [--readme]
 *
 * `--filter` keeps the rows with the text in their id, their group's name or their words; more than one, separated by commas, keeps those of
 * any. `--json` prints the figures as JSON. `--readme` measures nothing: it puts what was kept of earlier runs into README.md.
 */
import { cpus, release, totalmem, type } from 'node:os';
import { parseArgs } from 'node:util';
import { BenchBrowser } from './browser.ts';
import { allGroups } from './groups/all.ts';
import { type Figure, figureOf, type Group, type Row } from './harness.ts';
import { measureGroup } from './measuring.ts';
import { keep, type Results, tableText, writeReadme } from './report.ts';

const { values } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '11' },
    json: { type: 'boolean', default: false },
    readme: { type: 'boolean', default: false },
  },
});

async function measure(): Promise<void> {
  const words = values.filter.split(',');
  const wanted = (group: Group, row: Row) => words.some((word) => `${row.id} ${group.name} ${row.what}`.includes(word));
  const groups = allGroups.map((group) => ({ ...group, rows: group.rows.filter((row) => wanted(group, row)) })).filter(({ rows }) => rows.length > 0);
  if (groups.length === 0)
    throw new Error(
      `no row has "${values.filter}" in its id or its words; there are: ${allGroups.flatMap(({ rows }) => rows.map(({ id }) => id)).join(', ')}`,
    );
  const results = await measureAll(groups);
  console.log(values.json ? JSON.stringify(results, null, 2) : `\n${tableText(groups, results)}`);
}

async function measureAll(groups: readonly Group[]): Promise<Results> {
  const browser = new BenchBrowser(progress);
  const figures: Record<string, Figure> = {};
  try {
    const machine = describeMachine(await browser.version());
    for (const { name, where, rows } of groups) {
      const request = { group: name, rows: rows.filter(({ notBuilt }) => notBuilt === undefined).map(({ id }) => id), rounds: Number(values.rounds) };
      if (request.rows.length === 0) continue;
      const found = where === 'node' ? await measureGroup(allGroups, request, progress) : await browser.measure(request);
      for (const [id, sample] of Object.entries(found)) figures[id] = figureOf(sample);
      // Group by group, so that a later one that fails loses nothing.
      keep({ machine, figures });
    }
    return { machine, figures };
  } finally {
    await browser.close();
  }
}

function progress(text: string): void {
  console.error(text);
}

function describeMachine(chromium: string): string {
  const processors = cpus();
  const gibibytes = Math.round(totalmem() / 2 ** 30);
  const [kernel] = release().split('-');
  return `${processors[0]?.model.trim() || 'processor'}, ${processors.length} cores, ${gibibytes} GiB, ${type()} ${kernel}, Chromium ${chromium}, Node ${process.versions.node}`;
}

if (values.readme) console.log(writeReadme(allGroups) ? 'README.md has a new table.' : 'The table in README.md was current.');
else await measure();
