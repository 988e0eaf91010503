import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { Sides } from './harness.ts';

const sides = new Sides();
beforeAll(() => {
  sides.put('list', 'one\n-two\n# three\nfour*\n\n');
  sides.put('odd.raw', new Uint8Array(3000).fill(7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'a.raw', '3M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '10M');
  sides.prepare('qemu-img', 'snapshot', '-c', 'two', 's.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'small.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'small.qcow2', '-F', 'qcow2', 'over.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'missing.raw', '-F', 'raw', 'orphan.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 'marked.qcow2', '1M');
  const marked = readFileSync(join(sides.ours, 'marked.qcow2'));
  // The corrupt bit.
  marked[79] = 2;
  sides.put('marked.qcow2', marked);
});
afterAll(() => sides.remove());

/** Words as a shell would split them; '' is an empty argument. */
const words = (line: string): string[] =>
  line
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => (word === "''" ? '' : word));

const WRONG = `
foo
-x
--frob
-T
--trace
-T x=1 info a.raw
-T x,y=1 info a.raw
-T nosuch info a.raw
-T enable=nosuch info a.raw
-T -nosuch info a.raw
-T no* info a.raw
--trace=enable=nosuch,events=list info a.raw
-T events=missing info a.raw
-T '' info nofile
-T nosuch
info -T nosuch a.raw
create
create -f
create --frob x
create -z x
create -f qcow2 n.qcow2
create -f qcow2 n.qcow2 10M 20M
create -f qcow2 n.qcow2 10Q
create -f qcow2 n.qcow2 1.5
create -f qcow2 n.qcow2 -- -5
create -f nope n.x 10M
create -f qcow2 -o cluster_size=100 n.qcow2 10M
resize marked.qcow2 +1M
snapshot -c a marked.qcow2
create -f qcow2 -o cluster_size=x n.qcow2 10M
create -f qcow2 -o extended_l2=on,cluster_size=8k n.qcow2 10M
create -f qcow2 -o extended_l2=on,compat=0.10,cluster_size=1000 n.qcow2 10M
create -f qcow2 -o extended_l2=on,cluster_size=16k n.qcow2 65T
create -f qcow2 -o foo=1 n.qcow2 10M
create -f raw -o foo=1 n.raw 10M
create -f qcow2 -o foo n.qcow2 10M
create -f qcow2 -o '' n.qcow2 5M
create -f qcow2 -o , n.qcow2 5M
create -f qcow2 -o compat=v9 n.qcow2 5M
create -f qcow2 -o refcount_bits=3 n.qcow2 5M
create -f qcow2 -o refcount_bits=x n.qcow2 5M
create -f qcow2 -o compat=0.10,refcount_bits=8 n.qcow2 5M
create -f qcow2 -o compat=0.10,lazy_refcounts=on n.qcow2 5M
create -f qcow2 -o lazy_refcounts=maybe n.qcow2 5M
create -f qcow2 -o size=x n.qcow2
create -f qcow2 -o size=7M n.qcow2 8M
create -f qcow2 -b missing n.qcow2 10M
create -f qcow2 -b missing -F raw n.qcow2
create -f qcow2 -b missing -F raw -u n.qcow2
create -f qcow2 -b small.qcow2 -F qcow2 ''
create -f qcow2 -b a.raw -F raw json:{"driver":"qcow2","file.filename":"n.qcow2"}
create -f qcow2 -b a:a.raw -F raw n.qcow2
create -f qcow2 -b a.raw -F nope n.qcow2 1M
create -f qcow2 -u -b a.raw -F nope n.qcow2 1M
create -f qcow2 -b missing -u n.qcow2 10M
create -f qcow2 -b a.raw n.qcow2
create -f qcow2 -b a.raw -F qcow2 n.qcow2
create -f qcow2 -b a.raw -F bogus n.qcow2 5M
create -f qcow2 -b '' -F raw n.qcow2 4M
create -f qcow2 -b n.qcow2 -F raw n.qcow2 1M
create -f qcow2 -F raw n.qcow2 10M
create -f raw -b a.raw n.raw 10M
create -f qcow2 /nonexistent/n.qcow2 1M
create -q
create -f qcow2 ''
create -f qcow2 '' 1M
create -f qcow2 n.qcow2 20E
create -f qcow2 n.qcow2 -1M
create -f qcow2 n.qcow2 1MM
create -f qcow2 n.qcow2 0x
create -f qcow2 n.qcow2 M
create -f qcow2 n.qcow2 1.M5
create -f qcow2 n.qcow2 ''
create -f qcow2 -o cluster_size=4M n.qcow2 1M
create -f qcow2 -o cluster_size=256 n.qcow2 1M
create -f qcow2 -o cluster_size=-1 n.qcow2 1M
create -f qcow2 -o preallocation=bogus n.qcow2 1M
create -f qcow2 -o refcount_bits=128 n.qcow2 1M
create -f qcow2 -o refcount_bits=-1 n.qcow2 1M
create -f qcow2 -o backing_fmt=raw n.qcow2 1M
create -f qcow2 -o backing_file= n.qcow2 1M
create -f qcow2 -o backing_file=a.raw n.qcow2 1M
create -f qcow2 -o preallocation=metadata -b a.raw -F raw n.qcow2
create -f qcow2 -o compat n.qcow2 1M
create -f qcow2 -o =1 n.qcow2 1M
create -f qcow2 -o ,compat=1.1 n.qcow2 1M
create -f raw -o preallocation=bogus n.raw 1M
create -f raw -F raw n.raw 1M
create -f raw /nonexistent/n.raw 1M
create -f raw . 1M
create -b a.raw -b s.qcow2 -F raw -f qcow2 n.qcow2 x
create -u -f qcow2 n.qcow2
info
info a b
info nofile
info ''
info foo:bar
info --output=xml a.raw
info --output a.raw
info --backing-chain=3 a.raw
info -f nope a.raw
info -f qcow2 a.raw
info --backing-chain orphan.qcow2
info --backing-chain --output=json orphan.qcow2
info --backing-chain nofile
info -U nofile
info -z a.raw
info -f
info --output
info --frob a.raw
info --back a b
map
map orphan.qcow2
map -s x s.qcow2
map -l x s.qcow2
map --output=foo s.qcow2
map a b
map nofile
map -f nope s.qcow2
map --start-offset s.qcow2
map --start-offset=x s.qcow2
map --max-length=x s.qcow2
map --start-offset=-1 s.qcow2
map --start-offset=20E s.qcow2
map -z s.qcow2
map --output
map -U nofile
check
check nofile
check -r foo s.qcow2
check -r
check a.raw
check --output=json a.raw
check -f raw s.qcow2
check --output=foo s.qcow2
check -r all a.raw
check -T foo s.qcow2
check -f nope s.qcow2
check a b
check -z s.qcow2
check --output
check -q a.raw
check -q -r bar s.qcow2
check --output=json nofile
check -U nofile
check orphan.qcow2
snapshot
snapshot -c
snapshot -l -c x s.qcow2
snapshot -c x -d y s.qcow2
snapshot -f qcow2 -l s.qcow2
snapshot -a nope s.qcow2
snapshot -d nope s.qcow2
snapshot -d 1 s.qcow2
snapshot -c x a.raw
snapshot -d x a.raw
snapshot -l orphan.qcow2
snapshot -U -c x s.qcow2
snapshot -U -d two s.qcow2
snapshot -l nofile
snapshot -q -l nofile
snapshot -a
snapshot -d
snapshot -d '' s.qcow2
snapshot -a '' s.qcow2
snapshot -l s.qcow2 b
snapshot -a 1 -a 2 s.qcow2
snapshot -z s.qcow2
snapshot -c x nofile
check -U -r all s.qcow2
resize
resize a.raw
resize s.qcow2 1M 2M
resize s.qcow2 8M -q
resize nofile 8M
resize a.raw 2M
resize -f raw a.raw 2M
resize -f raw a.raw -512
resize -f raw a.raw foo
resize -f raw a.raw +foo
resize -f raw a.raw ''
resize -f raw --shrink a.raw -100G
resize -f raw --preallocation=bogus a.raw +512
resize s.qcow2 12000001
resize s.qcow2 8M
resize -q s.qcow2 8M
resize --shrink
resize -f nope a.raw 5M
resize -f qcow2 a.raw 5M
resize -z a.raw 5M
resize -f raw a.raw 0
resize -f raw a.raw 9E
resize -f raw a.raw 20E
resize --preallocation a.raw
resize --preallocation= a.raw 5M
resize --shrink --preallocation=full -f raw a.raw 1M
resize --preallocation=metadata -f raw a.raw 5M
compare a.raw
compare a b c
compare a.raw nofile
compare nofile a.raw
compare -f qcow2 a.raw a.raw
compare -F nope a.raw a.raw
compare -T foo a.raw a.raw
compare orphan.qcow2 a.raw
compare -p nofile a.raw
compare -p a.raw nofile
compare -p -f qcow2 a.raw a.raw
compare -p -q -T foo a.raw a.raw
compare -s a.raw s.qcow2
compare -s -q a.raw s.qcow2
compare -p -s a.raw s.qcow2
compare -z a.raw a.raw
compare -f
compare '' a.raw
compare -U nofile a.raw
convert
convert a.raw
convert nofile out.raw
convert -n -O qcow2 s.qcow2 small.qcow2
convert -n -O qcow2 s.qcow2 nofile.qcow2
convert -n -o compat=0.10 -O qcow2 s.qcow2 out.qcow2
convert -S 100 s.qcow2 out.raw
convert -S x s.qcow2 out.raw
convert -S 4G s.qcow2 out.raw
convert -l nope s.qcow2 out.raw
convert -l two a.raw out.raw
convert -l snapshot.foo=2 s.qcow2 out.raw
convert -s two s.qcow2 out.raw
convert -O nope s.qcow2 out.x
convert -O qcow2 -o cluster_size=7 s.qcow2 out.qcow2
convert -O qcow2 -o bogus=7 s.qcow2 out.qcow2
convert -O qcow2 -B a.raw s.qcow2 out.qcow2
convert -O qcow2 -B missing -F raw s.qcow2 out.qcow2
convert -O raw -B a.raw -F raw s.qcow2 out.raw
convert -O qcow2 -F raw s.qcow2 out.qcow2
convert -O qcow2 -B a.raw -F raw a.raw s.qcow2 out.qcow2
convert --target-is-zero s.qcow2 out.raw
convert -O qcow2 s.qcow2 s.qcow2
convert -O raw -c s.qcow2 out.raw
convert -m 0 s.qcow2 out.raw
convert -m 17 s.qcow2 out.raw
convert -t foo s.qcow2 out.raw
convert -T foo s.qcow2 out.raw
convert -C -S 0 s.qcow2 out.raw
convert -C -c -O qcow2 s.qcow2 out.qcow2
convert -C --salvage s.qcow2 out.raw
convert -r foo s.qcow2 out.raw
convert -r -5 s.qcow2 out.raw
convert -m x s.qcow2 out.raw
convert -m 3x s.qcow2 out.raw
convert -m -1 s.qcow2 out.raw
convert -p nofile out.raw
convert -p a.raw
convert -p -T foo s.qcow2 out.raw
convert -p -O nope s.qcow2 out.x
convert -p -n -O qcow2 s.qcow2 small.qcow2
convert -z s.qcow2 out.raw
convert -O
convert --frob s.qcow2 out.raw
convert --target-is-zero -n -O raw s.qcow2 nofile
convert -n -O nope s.qcow2 out.raw
convert -n -B a.raw -F raw -O qcow2 s.qcow2 small.qcow2
convert -l snapshot.id=7 s.qcow2 out.raw
convert -l snapshot.id=1,snapshot.name=nope s.qcow2 out.raw
convert -l snapshot.name=nope s.qcow2 out.raw
convert -O qcow2 -o preallocation=full -c s.qcow2 out.qcow2
convert -O qcow2 -o compat=0.10,extended_l2=on s.qcow2 out.qcow2
convert -O qcow2 -o '' s.qcow2 out.qcow2
convert s.qcow2 ''
convert '' out.raw
convert -U -f nope s.qcow2 out.raw
convert -f qcow2 a.raw out.raw
convert s.qcow2 /nonexistent/out.raw
convert orphan.qcow2 out.raw
commit
commit nofile
commit a b
commit -b
commit -z s.qcow2
commit s.qcow2
commit a.raw
commit -f nope s.qcow2
commit -t foo over.qcow2
commit -r x over.qcow2
commit -b nope over.qcow2
commit -b over.qcow2 over.qcow2
commit orphan.qcow2
commit -p nofile
commit -p a.raw
commit -p -b nope over.qcow2
commit -d -b nope over.qcow2
commit -r 20E over.qcow2
commit --frob over.qcow2
commit -b small.qcow2
commit ''
rebase
rebase s.qcow2
rebase -F qcow2 s.qcow2
rebase -b a.raw s.qcow2 c
rebase -b a.raw nofile
rebase -q s.qcow2 nofile
rebase -b nofile -F raw s.qcow2
rebase -b a.raw s.qcow2
rebase -b a.raw -F nope s.qcow2
rebase -b a.raw -F qcow2 s.qcow2
rebase -u -b foo s.qcow2
rebase -u -b foo -F nope s.qcow2
rebase -t foo -b a.raw -F raw s.qcow2
rebase -T foo -b a.raw -F raw s.qcow2
rebase -f raw -u -b foo -F raw a.raw
rebase -b s.qcow2 -F qcow2 orphan.qcow2
rebase -p -b nofile -F raw s.qcow2
rebase -p s.qcow2
rebase -u s.qcow2 b
rebase -z s.qcow2
rebase -b
rebase -b '' nofile
rebase -U -b '' s.qcow2
rebase -u -b '' nofile
measure
measure nofile
measure a.raw s.qcow2
measure --size 8M s.qcow2
measure --size x
measure --size 1M -f raw
measure --size 1M -l two
measure -O nope s.qcow2
measure -O qcow2 -o bogus=1 s.qcow2
measure -O qcow2 -o '' s.qcow2
measure -O qcow2 -o help s.qcow2
measure -O qcow2 -o cluster_size=100 s.qcow2
measure -O qcow2 -o compat=v9 s.qcow2
measure -O qcow2 -o refcount_bits=3 s.qcow2
measure -O qcow2 -o compat=0.10,refcount_bits=8 s.qcow2
measure -O qcow2 -o extended_l2=on,cluster_size=4k --size 1M
measure -O qcow2 -o cluster_size=512 --size 1T
measure --output=xml s.qcow2
measure -l nope s.qcow2
measure -l snapshot.foo=1 s.qcow2
measure --size -1
measure --size 20E
measure --size
measure -z s.qcow2
measure -f nope s.qcow2
measure -U nofile
measure -f qcow2 a.raw
measure -O
measure -O qcow2 -o foo --size 1M
measure -O qcow2 -o preallocation=bogus --size 1M
dd
dd if=a.raw
dd of=out.raw
dd if=nofile of=out.raw
dd foo=1 if=a.raw of=out.raw
dd foo if=a.raw of=out.raw
dd if=a.raw of=out.raw bs=0
dd if=a.raw of=out.raw bs=x
dd if=a.raw of=out.raw bs=4G
dd if=a.raw of=out.raw count=x
dd if=a.raw of=out.raw skip=-1
dd -O nope if=a.raw of=out.raw
dd -f qcow2 if=a.raw of=out.raw
dd -n if=a.raw of=out.raw
dd if=s.qcow2 of=/nonexistent/out.raw
dd if=s.qcow2 of=s.qcow2
dd if=s.qcow2 of=out.raw bs=1M skip=11
dd -U if=nofile of=out.raw
dd -z if=a.raw of=out.raw
dd -f nope if=a.raw of=out.raw
dd -f
dd if=a.raw of=out.raw bs=-1
dd if=a.raw of=out.raw bs=
dd if= of=out.raw
dd if=a.raw of=
dd if=a.raw of=out.raw count=-1
dd if=a.raw of=out.raw skip=x
dd =x if=a.raw of=out.raw
dd -O qcow2 if=a.raw of=/nonexistent/out.qcow2
bench
bench nofile
bench a b
bench -c x s.qcow2
bench -c -5 s.qcow2
bench -d x s.qcow2
bench -s x s.qcow2
bench -s 4G s.qcow2
bench -S x s.qcow2
bench -o x s.qcow2
bench --pattern=300 -w s.qcow2
bench --flush-interval=x -w s.qcow2
bench -c 10 --flush-interval=3 s.qcow2
bench -w -c 10 --flush-interval=3 s.qcow2
bench -t foo s.qcow2
bench -U -w s.qcow2
bench -n s.qcow2
bench -i foo s.qcow2
bench -i native s.qcow2
bench -i io_uring -t foo s.qcow2
bench -f nope s.qcow2
bench -z s.qcow2
bench -c
bench --pattern=x -w s.qcow2
bench --pattern=-1 -w s.qcow2
bench -o -1 s.qcow2
bench -S -1 s.qcow2
bench -d -1 s.qcow2
bench -s 0 -c 1 nofile
bench -c 4 -o 10M s.qcow2
bench -c 10 -d 2 -s 11M s.qcow2
amend
amend s.qcow2
amend -o compat=0.10
amend -o compat=v9 s.qcow2
amend -o foo=1 s.qcow2
amend -o cluster_size=4k s.qcow2
amend -o refcount_bits=3 s.qcow2
amend -o '' s.qcow2
amend -o lazy_refcounts=x s.qcow2
amend -f raw -o size=1M a.raw
amend -o size=1M a.raw
amend -f nope -o compat=v3 s.qcow2
amend -t foo -o compat=v3 s.qcow2
amend -z s.qcow2
amend -o compat=v3 nofile
amend -o compat=v3 s.qcow2 b
amend -o backing_file=x s.qcow2
amend -o preallocation=full s.qcow2
amend -p -o compat=v3 nofile
bitmap
bitmap s.qcow2
bitmap --add s.qcow2
bitmap --add nofile b
bitmap --remove s.qcow2 b
bitmap --clear s.qcow2 b
bitmap --enable s.qcow2 b
bitmap --disable s.qcow2 b
bitmap --merge x s.qcow2 b
bitmap --add -g 3 s.qcow2 b
bitmap --add -g x s.qcow2 b
bitmap -g 64k --remove s.qcow2 b
bitmap -b a.raw --add s.qcow2 b
bitmap -F raw --add s.qcow2 b
bitmap --add -f nope s.qcow2 b
bitmap --merge x -b nofile -F qcow2 s.qcow2 b
bitmap -z s.qcow2 b
bitmap --add s.qcow2 b c
bitmap --merge
bitmap s.qcow2 b
convert --bitmaps s.qcow2 out.raw
convert --skip-broken-bitmaps s.qcow2 out.raw
convert --bitmaps -O qcow2 a.raw out.qcow2
`;

describe('a wrong invocation of qemu-img is answered as qemu-img answers it', () => {
  it('without arguments', async () => {
    await sides.same();
  });

  const lines = WRONG.trim().split('\n');
  const verbs = [...new Set(lines.map((line) => words(line)[0] as string))];
  it.each(verbs)('%s', async (verb) => {
    await sides.sameBatch(
      'qemu-img',
      lines.map(words).filter(([first]) => first === verb),
    );
  });
});
