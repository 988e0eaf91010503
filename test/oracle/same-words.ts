/** The two command lines beside each other: what qemu-img says of an image, ours must say, too. */
import { expect } from 'vitest';
import { run as tabdisk } from '../../src/cli/program.ts';
import { run } from './qemu.ts';

/** An image and its expected contents on a command line. */
export interface NamedImage {
  readonly named: readonly string[];
  /** The image and a raw file of its contents, as `compare` takes them. */
  readonly beside: readonly string[];
}

/** What a command line printed: ours, in this process. */
async function ourOutput(args: readonly string[]): Promise<{ status: number; out: string }> {
  let out = '';
  const add = (text: string) => {
    out += text;
  };
  const lines = (async function* () {})();
  return { status: await tabdisk({ program: 'qemu-img', out: add, err: add, lines }, args), out };
}

/** Both command lines must say the same of an image. `holes`: holes of its files are seen by QEMU only, so what depends on them is left out. */
export async function requireSameWords({ named, beside }: NamedImage, { holes, context }: { holes: boolean; context: string }): Promise<void> {
  const dependent = [
    ['map', '--output=json', ...named],
    ['measure', '--output=json', '-O', 'qcow2', ...named],
    ['measure', '--output=json', '-O', 'raw', ...named],
  ];
  for (const args of [['info', '--output=json', '--backing-chain', ...named], ['check', '--output=json', ...named], ...(holes ? [] : dependent)]) {
    const theirs = run('qemu-img', args);
    const ours = await ourOutput(args);
    expect({ ...ours, out: parsed(ours.out) }, `${context}: ${args.join(' ')}`).toEqual({
      status: theirs.status,
      out: parsed(theirs.stdout || theirs.stderr),
    });
  }
  for (const strict of holes ? [[]] : [[], ['-s']]) {
    const args = ['compare', ...strict, ...beside];
    const theirs = run('qemu-img', args);
    expect(await ourOutput(args), `${context}: ${args.join(' ')}`).toEqual({ status: theirs.status, out: theirs.stdout });
  }
}

/** Output of JSON as a value; a message as its text. */
function parsed(out: string): unknown {
  return out.startsWith('{') || out.startsWith('[') ? JSON.parse(out) : out.replace(/^qemu-img: /, '');
}
