/** The real qemu-storage-daemon, told by QMP on its standard input to run a block job. A missing tool fails the test, saying how to get it. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
  readonly data?: { readonly error?: string };
}

/** Opens a qcow2 image with its backing chain as the node `disk` and runs one block job on it to its end. Throws what the job says. */
export async function qemuJob(path: string, command: string, parameters: Readonly<Record<string, unknown>>): Promise<void> {
  const daemon = spawn('qemu-storage-daemon', [
    ...['--blockdev', `driver=qcow2,node-name=disk,file.driver=file,file.filename=${path}`],
    ...['--chardev', 'stdio,id=talk', '--monitor', 'chardev=talk'],
  ]);
  const ended = new Promise<void>((resolve, reject) => {
    daemon.on('error', (error) => reject(new Error(`qemu-storage-daemon cannot be run (${error.message}): install the package qemu-system-common`)));
    daemon.on('close', () => resolve());
  });
  const said: string[] = [];
  daemon.stderr.on('data', (text) => said.push(String(text)));
  daemon.stdin.on('error', () => undefined);
  const tell = (execute: string, args: Readonly<Record<string, unknown>> = {}): void => {
    daemon.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`);
  };
  let done = false;
  let failure: string | undefined;
  tell('qmp_capabilities');
  tell(command, { 'job-id': 'job', device: 'disk', ...parameters });
  for await (const line of createInterface({ input: daemon.stdout })) {
    const answer = JSON.parse(line) as Answer;
    if (answer.error) failure = answer.error.desc;
    if (answer.event === 'BLOCK_JOB_COMPLETED') {
      done = true;
      failure ??= answer.data?.error;
    }
    if (answer.error || answer.event === 'BLOCK_JOB_COMPLETED') tell('quit');
  }
  await ended;
  if (failure !== undefined || !done) throw new Error(`${command} on ${path}: ${failure ?? said.join('')}`);
}
