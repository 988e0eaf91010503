/** The package as an embedder gets it: packed, and unpacked into a project of its own. Needs `npm run build` before. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const TOP = resolve(import.meta.dirname, '../..');

/** Runs a command to its end and returns its output. Throws with all of it if the status is not 0. */
export function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/** Makes a project with the package and its dependencies in it. Returns its folder, which the caller removes. */
export function packedProject(): string {
  if (!existsSync(join(TOP, 'dist/index.js'))) throw new Error('dist/ is not there: run npm run build first');
  const folder = mkdtempSync(join(tmpdir(), 'tabdisk-consumer-'));
  const installed = join(folder, 'node_modules/tabdisk');
  mkdirSync(installed, { recursive: true });
  const packed = run('npm', ['pack', '--silent', '--pack-destination', folder], TOP);
  run('tar', ['-xzf', join(folder, packed.trim()), '-C', installed, '--strip-components=1'], folder);
  const { dependencies } = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
  for (const name of Object.keys(dependencies)) {
    const place = join(folder, 'node_modules', name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(TOP, 'node_modules', name), place);
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', type: 'module' }));
  return folder;
}
