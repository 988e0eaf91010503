/** What QEMU has and tabdisk does not have yet is refused by name with status 1; nothing is ignored. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VERSION } from '../../src/cli/help.ts';
import { Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
});
afterAll(() => sides.remove());

describe('refused by name', () => {
  it.each([
    ['measure -O vvfat k.qcow2', "The format 'vvfat'"],
    ['rebase -b x -F vvfat k.qcow2', "The format 'vvfat'"],
    ['create -f vvfat n 1M', "n: The format 'vvfat'"],
    ['info nbd:localhost:1', "Could not open 'nbd:localhost:1': The protocol 'nbd'"],
    ['info --image-opts driver=nvme', "Could not open 'driver=nvme': The driver 'nvme'"],
    ['create -f raw -o nocow=on n.raw 1M', "n.raw: The option 'nocow'"],
  ])('%s', async (line, what) => {
    expect(await sides.tabdisk(line.split(' '), { program: 'tabdisk' })).toEqual({
      out: '',
      err: `tabdisk: ${what} is not supported yet\n`,
      status: 1,
    });
  });
});

const VERBS = 'create info check map convert compare compact commit rebase measure dd bench snapshot resize amend bitmap io'.split(' ');

describe('the program', () => {
  it('prints help on one screen, for all and for each verb', async () => {
    const { out, status } = await sides.tabdisk(['--help'], { program: 'tabdisk' });
    expect(status).toBe(0);
    expect(out.split('\n').length).toBeLessThan(30);
    for (const verb of VERBS) {
      expect(out).toContain(`tabdisk ${verb} `);
      expect((await sides.tabdisk([verb, '-h'], { program: 'tabdisk' })).out).toContain(`tabdisk ${verb} `);
    }
  });

  it('knows its version', async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string };
    expect(VERSION).toBe(version);
    expect((await sides.tabdisk(['--version'], { program: 'tabdisk' })).out).toBe(`tabdisk version ${version}\n`);
  });

  it('runs as a process: arguments, standard input, output in order, exit status', () => {
    const main = join(import.meta.dirname, '../../src/cli/main.ts');
    const start = (args: string[], input = '') =>
      spawnSync(process.execPath, ['--import', import.meta.resolve('tsx'), main, ...args], {
        cwd: sides.ours,
        encoding: 'utf8',
        input,
        env: { ...process.env, TABDISK_ARGV0: '/usr/bin/qemu-img' },
      });
    expect(start(['info', 'nofile'])).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/^qemu-img: Could not open 'nofile'/) });
    const { status, stdout, stderr } = start(['io', 'k.qcow2'], 'length\nread 9M 1\nnope\n');
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: 'qemu-io> 4 MiB\nqemu-io> read failed: Input/output error\nqemu-io> qemu-io> ',
      stderr: 'command "nope" not found\n',
    });
  });
});
