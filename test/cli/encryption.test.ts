/** Encryption on the command line beside the real tools: `--object secret`, `-o encrypt.*`, what `info` says, and what is refused. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { normal, Sides } from './harness.ts';

const sides = new Sides();
afterAll(() => sides.remove());

const SECRET = ['--object', 'secret,id=s,data=x'];

/** Made here, because QEMU takes seconds; both sides get the same files. */
beforeAll(async () => {
  for (const side of [sides.ours, sides.theirs]) {
    const make = async (...args: string[]) => expect((await sides.tabdisk(['create', '-q', ...SECRET, ...args], { side })).err).toBe('');
    await make('-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1', 'luks.qcow2', '2M');
    await make('-f', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s', 'aes.qcow2', '2M');
    await make('-f', 'luks', '-o', 'key-secret=s,iter-time=1,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1', 'bare.luks', '2M');
  }
});

describe('info without the passphrase', () => {
  const rest = (text: string) =>
    text
      .replace(/uuid: \S+|iters: \d+/g, '')
      .split('\n')
      .slice(4);

  it.each(['luks.qcow2', 'aes.qcow2', 'bare.luks'])('%s', async (name) => {
    const [ours, theirs] = [await sides.tabdisk(['info', name]), sides.qemu('qemu-img', ['info', name])];
    expect(rest(ours.out)).toEqual(rest(theirs.out));
    // The JSON of one file, which both read.
    const [json, qemuJson] = [
      await sides.tabdisk(['info', '--output=json', name], { side: sides.ours }),
      sides.qemu('qemu-img', ['info', '--output=json', name], { side: sides.ours }),
    ];
    expect(JSON.parse(json.out)).toEqual(JSON.parse(qemuJson.out));
  });
});

describe('create is refused in the same words', () => {
  it.each([
    ['qcow2', 'encrypt.format=luks'],
    ['qcow2', 'encrypt.format=aes'],
    ['qcow2', 'encrypt.format=foo,encrypt.key-secret=s'],
    ['qcow2', 'encrypt.key-secret=s'],
    ['qcow2', 'encrypt.cipher-alg=aes-128'],
    ['qcow2', 'encryption=on'],
    ['qcow2', 'encryption=off,encrypt.format=luks'],
    ['qcow2', 'encryption=on,encrypt.format=aes,encrypt.key-secret=s'],
    ['qcow2', 'encrypt.format=aes,encrypt.key-secret=s,encrypt.cipher-alg=aes-128'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=nosuch'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=foo'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-mode=foo'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha1'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=foo'],
    ['qcow2', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.foo=1'],
    ['luks', 'cipher-alg=aes-128'],
    ['luks', 'key-secret=nosuch'],
    ['luks', 'key-secret=s,foo=1'],
    ['luks', 'key-secret=s,hash-alg=foo'],
    ['raw', 'key-secret=s'],
  ])('-f %s -o %s', async (format, options) => {
    const line = ['create', '-q', ...SECRET, '-f', format, '-o', options, 'new', '1M'];
    const [ours, theirs] = [await sides.tabdisk(line), sides.qemu('qemu-img', line)];
    expect(ours.status).toBe(1);
    expect(normal(ours)).toEqual(normal(theirs));
  });

  it('a cipher that no library carries', async () => {
    const line = ['create', '-q', ...SECRET, '-f', 'luks', '-o', 'key-secret=s,cipher-alg=twofish-256', 'new', '1M'];
    expect((await sides.tabdisk(line)).err).toBe('qemu-img: new: the cipher twofish-256 is not supported (only aes is)\n');
  });
});

describe('--object is refused in the same words', () => {
  it.each([
    'secret,id=s',
    'secret,data=x',
    'secret',
    'secret,id=s,data=x,file=y',
    'secret,id=s,file=/nonexistent',
    'secret,id=s,data=x,format=foo',
    'secret,id=s,data=x,foo=1',
    'secret,id=1s,data=x',
    'foo,id=s',
    'id=s',
  ])('%s', async (object) => {
    await sides.same('create', '--object', object, '-f', 'raw', 'new', '1M');
  });

  it('the same id twice', async () => {
    await sides.same('create', ...SECRET, ...SECRET, '-f', 'raw', 'new', '1M');
  });
});
