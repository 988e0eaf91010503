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

describe('verbs with the passphrase do and say the same', () => {
  const named = (file: string, driver = 'qcow2') => [
    '--image-opts',
    `driver=${driver},${driver === 'luks' ? '' : 'encrypt.'}key-secret=s,file.filename=${file}`,
  ];

  beforeAll(async () => {
    // The same bytes, so that reports about them agree: QEMU writes them through tabdisk's image.
    for (const [file, driver] of [
      ['luks.qcow2', 'qcow2'],
      ['aes.qcow2', 'qcow2'],
      ['bare.luks', 'luks'],
    ] as const)
      for (const side of [sides.ours, sides.theirs])
        sides.qemu('qemu-io', [...SECRET, ...named(file, driver), '-c', 'write -P 3 64k 200k', '-c', 'write -z 1M 64k'], { side });
  });

  it.each([
    ['check', ['luks.qcow2']],
    ['check', ['aes.qcow2']],
    ['map', ['luks.qcow2']],
    ['map', ['aes.qcow2', '--output=json']],
    ['map', ['luks.qcow2', '--output=json']],
    ['measure', ['luks.qcow2', '-O', 'qcow2']],
    ['measure', ['luks.qcow2', '-O', 'luks', '-o', 'key-secret=s']],
    ['measure', ['luks.qcow2', '-O', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s,cluster_size=4k']],
    ['measure', ['luks.qcow2', '-O', 'luks']],
    ['measure', ['luks.qcow2', '-O', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=nosuch']],
    ['snapshot', ['luks.qcow2', '-l']],
    ['resize', ['aes.qcow2', '3M']],
  ] as const)('%s %j', async (verb, [file, ...rest]) => {
    const [image, ...args] = verb === 'resize' ? [rest, ''] : [[], ...rest];
    await sides.same(verb, ...SECRET, ...args.filter(Boolean), ...named(file), ...image);
  });

  it('without the right one no verb opens', async () => {
    for (const file of ['luks.qcow2', 'aes.qcow2']) await sides.same('check', file);
    await sides.same('check', '--object', 'secret,id=s,data=wrong', ...named('luks.qcow2'));
    await sides.same('check', '--object', 'secret,id=t,data=x', ...named('luks.qcow2'));
    await sides.same('check', ...SECRET, '--image-opts', 'driver=qcow2,encrypt.format=aes,encrypt.key-secret=s,file.filename=luks.qcow2');
    await sides.same('check', 'bare.luks');
  });

  it('io reads and writes, and is refused without the passphrase', async () => {
    const commands = ['-c', 'read -P 3 64k 200k', '-c', 'write -P 9 100k 5k', '-c', 'read -P 9 100k 5k', '-c', 'map'];
    for (const file of ['luks.qcow2', 'aes.qcow2']) await sides.sameIo([...SECRET, ...named(file), ...commands]);
    await sides.sameIo(['-c', 'read 0 512', 'luks.qcow2']);
    await sides.sameIo(['--object', 'secret,id=s,data=wrong', ...named('luks.qcow2'), '-c', 'read 0 512']);
  });

  it('an image is converted into an encrypted one and back', async () => {
    const target = ['-O', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s,preallocation=metadata'];
    for (const [file, driver] of [
      ['luks.qcow2', 'qcow2'],
      ['bare.luks', 'luks'],
    ] as const) {
      expect((await sides.tabdisk(['convert', ...SECRET, ...named(file, driver), ...target, 'copy'])).err).toBe('');
      const compare = ['compare', ...SECRET, '--image-opts', named(file, driver)[1] as string, named('copy')[1] as string];
      expect(sides.qemu('qemu-img', compare, { side: sides.ours }).out).toBe('Images are identical.\n');
    }
    await sides.same('convert', '-c', ...SECRET, ...named('luks.qcow2'), ...target, 'copy');
  });
});

describe('amend of key slots', () => {
  const image = ['--image-opts', 'driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2'];
  const secrets = [...SECRET, '--object', 'secret,id=n,data=new', '--object', 'secret,id=w,data=wrong'];

  it.each([
    'encrypt.state=active',
    'encrypt.state=active,encrypt.new-secret=nosuch',
    'encrypt.state=active,encrypt.new-secret=n,encrypt.keyslot=0',
    'encrypt.state=active,encrypt.new-secret=n,encrypt.keyslot=8',
    'encrypt.state=active,encrypt.new-secret=n,encrypt.old-secret=s',
    'encrypt.state=inactive',
    'encrypt.state=inactive,encrypt.old-secret=w',
    'encrypt.state=inactive,encrypt.old-secret=s',
    'encrypt.state=inactive,encrypt.keyslot=0',
    'encrypt.state=inactive,encrypt.keyslot=7',
    'encrypt.state=inactive,encrypt.keyslot=0,encrypt.old-secret=w',
    'encrypt.state=inactive,encrypt.new-secret=n',
    'encrypt.state=inactive,encrypt.old-secret=s,encrypt.iter-time=10',
    'encrypt.state=foo',
    'encrypt.keyslot=1',
    'encrypt.cipher-alg=aes-128',
  ])('is refused in the same words: %s', async (options) => {
    expect((await sides.same('amend', ...secrets, ...image, '-o', options)).status).toBe(1);
  });

  it('is refused for what has none', async () => {
    sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'plain.qcow2', '1M');
    await sides.same('amend', ...SECRET, '-o', 'encrypt.state=active,encrypt.new-secret=s', 'plain.qcow2');
    const aes = ['--image-opts', 'driver=qcow2,encrypt.key-secret=s,file.filename=aes.qcow2'];
    await sides.same('amend', ...SECRET, ...aes, '-o', 'encrypt.state=active,encrypt.new-secret=s');
  });

  it('adds a passphrase that opens the image in QEMU', async () => {
    const line = ['amend', ...secrets, ...image, '-o', 'encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10'];
    expect(await sides.tabdisk(line)).toEqual({ out: '', err: '', status: 0 });
    expect(sides.qemu('qemu-img', ['check', '--object', 'secret,id=s,data=new', ...image], { side: sides.ours }).status).toBe(0);
  });
});
