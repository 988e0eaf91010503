import { afterAll, beforeAll, describe, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'k.qcow2', '4M');
  sides.prepare('qemu-io', '-c', 'write 0 64k', 'k.qcow2');
  sides.put('cmds', 'some bytes to write\n');
  sides.put('empty', '');
  sides.put('plain', new Uint8Array(5000).fill(9));
});
afterAll(() => sides.remove());

const COMMANDS = `
nope
# comment
"length"
read
read 0
read -P
read x 1
read 5 x
read 9E 1
read 0 5G
read 4M 512
read 3M 2M
read 4M 0
read 5 -- -1
read 1.5k 100
read 0x200 1b
read 0 010
read 0 1e3
read "0" 512
read -P 300 0 1
read -P x 0 1
read -P 1 -l 50 0 10
read -P 1 -s 5 -l 50 0 10
read -P 0 -s 10 0 5
read -P 1 -s x 0 10
read -P 1 -l x 0 10
read -P 5 0 512
read 0 512 -P 0
readv 0
readv 0 5G
write
write x 1
write -P 300 0 1
write 4M 512
write -P 5 4000k 512k
write -u 0 1
write -z -P 3 0 1
write -u -z -P 3 0 1
write -z -s cmds 0 512
write -s nofile 0 1
write -s empty 0 1
write 0 5G
writev 0 x
aio_read
aio_read 0
aio_read 0 x
aio_read 4G 1
aio_write
aio_write 0 x
aio_write 4G 1
aio_write 0 5G
aio_write -P 300 0 1
aio_write -u 0 1
aio_flush 1
discard 0
discard 0 x
discard 0 5G
discard 4G 1
flush x
close x
length foo
map 1
alloc
alloc x
alloc 0 x
alloc 0 1k 2k
alloc 5M 1
truncate
truncate x
truncate 1000
truncate -m foo 1M
sleep
sleep x
help nope
open k.qcow2
open
reopen -r -w
reopen -w -r
reopen x
reopen -c foo
reopen -o foo=1
reopen -o driver=raw
reopen -z
reopen -c
reopen -o cache.direct=on -c none
reopen -r -o read-only=off
reopen -o read-only=maybe
reopen -o node-name=x
break l1_update
break l1_update x
break a b c
resume
resume x
resume a b
remove_break x
remove_break
wait_break
sigraise
sigraise x
sigraise 0
sigraise -1
sigraise 65
sigraise 999
sigraise 1.5k
abort x
write -c 0 512
write -c 5 65536
write -c 0 100
write -c 512 512
write -c -f 0 64k
write -n 0 512
write -n -z 0 3G
write -n 0 3G
write -b -z 0 64k
write -b -f 0 64k
write -u -n 0 512
read -a 0 512
readv -b 0 512
writev -b 0 512
writev -z 0 512
aio_read -i
aio_read -i 0 512
aio_read -i 0 x
aio_write -i 0 512
aio_write -i -z 0 512
aio_write -P 999 0 512
aio_write -s x 0 512
discard -z 0 512
`;

describe('a command that qemu-io refuses is refused in the same words', () => {
  const lines = COMMANDS.trim().split('\n');
  const names = [...new Set(lines.map((line) => line.split(' ')[0] as string))];
  it.each(names)('%s', async (name) => {
    const ours = lines.filter((line) => line.split(' ')[0] === name);
    await sides.sameBatch(
      'qemu-io',
      ours.map((line) => ['-c', line, 'k.qcow2']),
    );
  });

  it('without a file', async () => {
    const all = [
      'length',
      'read 0 1',
      'open nofile',
      'open .',
      'open',
      'sleep',
      'close',
      'quit x',
      'reopen -r',
      'break a b',
      'sigraise x',
      'abort x',
    ];
    await sides.sameBatch(
      'qemu-io',
      all.map((line) => ['-c', line]),
    );
  });

  it('on the command line', async () => {
    await sides.sameBatch('qemu-io', WRONG_OPTIONS);
  });
});

const WRONG_OPTIONS = [
  ['nofile', '-c', 'length'],
  ['-f', 'foo', '-c', 'length', 'k.qcow2'],
  ['-t', 'foo', '-c', 'length', 'k.qcow2'],
  ['-d', 'foo', '-c', 'length', 'k.qcow2'],
  ['-c', 'length', '.'],
  ['-c', 'length', ''],
  ['-f', 'qcow2', '-c', 'length', 'plain'],
  ['-r', '-c', 'write 0 512', '-c', 'discard 0 64k', '-c', 'truncate 1M', '-c', 'write -z 0 64k', '-c', 'aio_write 0 1', 'k.qcow2'],
  ['-i', 'foo', '-c', 'length', 'k.qcow2'],
  ['-i', 'native', '-c', 'length', 'k.qcow2'],
  ['-k', '-c', 'length', 'k.qcow2'],
  ['-k', '-n', '-m', '-c', 'length', 'k.qcow2'],
  ['-i', 'io_uring', '-c', 'length', 'k.qcow2'],
  ['-U', '-c', 'length', 'k.qcow2'],
  ['-T', 'nosuch', '-c', 'length', 'k.qcow2'],
  ['-T', 'x=1', '-c', 'length', 'k.qcow2'],
  ['--trace=no*', '-c', 'length', 'k.qcow2'],
  ['-r', '-s', '-c', 'write 0 512', 'k.qcow2'],
  ['-c', 'open -k k.qcow2'],
  ['-c', 'open -i foo k.qcow2'],
  ['-c', 'open -t foo k.qcow2'],
  ['-c', 'open -d foo k.qcow2'],
  ['-c', 'open -z k.qcow2'],
  ['-c', 'open a b'],
  ['-c', 'open -k -n k.qcow2', '-c', 'length'],
];
