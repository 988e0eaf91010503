/** What a page has to load of the packed package, bundled by Vite, minified and gzipped. Build first: `npm run build`. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packedProject } from '../../e2e/packed.ts';
import { pageSize, readmeSamples } from '../../e2e/page-size.ts';
import type { Group } from '../harness.ts';

/** The format is named, so that it counts: `openDisk` alone loads formats later. */
const OPENING = "export { openDisk, opfsStorage, qcow2 } from 'tabdisk';\nexport { v86Disk } from 'tabdisk/v86';\n";
const COMPRESSION = [/^pako$/, /^fzstd$/, /^@noble\//];

export const bundle: Group = {
  name: 'bundle',
  where: 'node',
  rows: [
    { id: 'bundle-sample', what: 'bundle of the package: the first sample above (v86 itself apart), minified and gzipped', target: 25, unit: 'kB' },
    { id: 'bundle-connect', what: 'bundle of the package: `connectEngine` alone', target: 5, unit: 'kB' },
    {
      id: 'bundle',
      what: 'bundle of the package: `openDisk` + qcow2 + OPFS + v86 adapter, without compression libraries',
      target: 25,
      unit: 'kB',
    },
    { id: 'bundle-later', what: 'what the same may load later: all other formats, and what few images need', unit: 'kB' },
  ],
  async measure(bench) {
    const project = packedProject();
    const record = (id: string, bytes: number) => {
      if (bench.wants(id)) bench.record(id, { ours: [bytes / 1000], unit: 'kB' });
    };
    try {
      bench.progress('bundle');
      writeFileSync(join(project, 'engine.ts'), "import 'tabdisk/worker';\n");
      record('bundle-sample', (await pageSize(project, 'sample', readmeSamples()[0] ?? '', [/^v86$/])).start);
      record('bundle-connect', (await pageSize(project, 'connect', "export { connectEngine } from 'tabdisk';\n")).start);
      const { start, later } = await pageSize(project, 'opening', OPENING, COMPRESSION);
      record('bundle', start);
      record('bundle-later', later);
    } finally {
      rmSync(project, { recursive: true, force: true });
    }
  },
};
