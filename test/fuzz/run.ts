/**
 * `npm run fuzz [-- --format qcow2] [--minutes 10] [--cases 2000000] [--from 0] [--processes 2]`: damaged images in child processes. A case
 * that finds something, or hangs, is saved under test/fuzz/fixtures, which the test replays; fix it and give it a speaking name.
 * With `--arguments`, command lines over whole images instead: one that finds something belongs into command-line.test.ts.
 */
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const { values } = parseArgs({
  options: {
    format: { type: 'string' },
    arguments: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '10' },
    cases: { type: 'string', default: '1000000000' },
    from: { type: 'string', default: '0' },
    processes: { type: 'string', default: '2' },
  },
});
const BATCH = 500;
const HANG_MILLISECONDS = 120_000;
const end = Date.now() + Number(values.minutes) * 60_000;
const last = Number(values.from) + Number(values.cases);
let next = Number(values.from);
let finished = 0;
let findings = 0;

type Message =
  | { kind: 'ready' }
  | { kind: 'done' }
  | { kind: 'begin'; number: number }
  | { kind: 'finding'; number: number; image: string; what: string; format?: string; bytes?: string };

function save(name: string, format: string, bytes: Uint8Array): void {
  writeFileSync(join(import.meta.dirname, 'fixtures', `${name}.${format}.gz`), gzipSync(bytes));
}

/** Runs one child until there is nothing more to do; a hanging child is killed, its case reported, and another started. */
function work(): Promise<void> {
  return new Promise((resolve) => {
    const child = fork(join(import.meta.dirname, values.arguments ? 'command-line-worker.ts' : 'worker.ts'), { execArgv: ['--import', 'tsx'] });
    let current = -1;
    let watch: NodeJS.Timeout | undefined;
    const give = () => {
      if (next >= last || Date.now() > end) {
        clearTimeout(watch);
        child.disconnect();
        resolve();
        return;
      }
      const to = Math.min(last, next + BATCH);
      child.send({ from: next, to, ...(values.format ? { format: values.format } : {}) });
      next = to;
    };
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => {
        findings++;
        process.stdout.write(`case ${current} hangs\n`);
        child.kill('SIGKILL');
        resolve(work());
      }, HANG_MILLISECONDS);
    };
    child.on('message', (message: Message) => {
      alive();
      if (message.kind === 'begin') current = message.number;
      else if (message.kind === 'finding') {
        findings++;
        process.stdout.write(`case ${message.number} (${message.image}): ${message.what}\n`);
        if (message.format && message.bytes) save(`case-${message.number}`, message.format, Buffer.from(message.bytes, 'base64'));
      } else {
        if (message.kind === 'done') finished += BATCH;
        give();
      }
    });
  });
}

const started = Date.now();
const ticker = setInterval(
  () => process.stdout.write(`${finished} cases, ${findings} findings, ${Math.round((finished * 1000) / (Date.now() - started))} a second\n`),
  30_000,
);
await Promise.all(Array.from({ length: Number(values.processes) }, work));
clearInterval(ticker);
process.stdout.write(`fuzz: ${finished} cases from ${values.from}, ${findings} findings, ${Math.round((Date.now() - started) / 1000)} s\n`);
process.exitCode = findings > 0 ? 1 : 0;
