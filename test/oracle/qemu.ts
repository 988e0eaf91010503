/** The real qemu-img and qemu-io, as judges. A missing tool fails the tests that need it, saying how to get it. */
import { type Ended, launch } from './launcher.ts';

/** Runs a tool; any exit status is a result. */
export const run = (tool: 'qemu-img' | 'qemu-io', args: readonly string[], input = ''): Ended => launch(tool, args, { input });

/** Runs qemu-img and returns what it printed; a failure is an error. */
export function qemuImg(...args: string[]): string {
  const { status, stdout, stderr } = run('qemu-img', args);
  if (status !== 0) throw new Error(`qemu-img ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  return stdout;
}

/** Runs commands of qemu-io on one image, in one process. `image`: a file of this format, or how a command line names an image. */
export function qemuIo(image: string | readonly string[], format: string, commands: readonly string[]): string {
  const args = ['-d', 'unmap', ...(typeof image === 'string' ? ['-f', format, image] : image), ...commands.flatMap((command) => ['-c', command])];
  const { status, stdout, stderr } = run('qemu-io', args);
  if (status !== 0 || stdout.includes('failed')) throw new Error(`qemu-io ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  return stdout;
}

/** Throws unless qemu-img finds nothing wrong, no leaks either. `image`: a qcow2 file, or how a command line names it. */
export function requireClean(image: string | readonly string[], context: string): void {
  const { status, stdout, stderr } = run('qemu-img', ['check', ...(typeof image === 'string' ? ['-f', 'qcow2', image] : image)]);
  if (status !== 0) throw new Error(`${context}: qemu-img check ended with ${status}: ${(stdout + stderr).slice(0, 2000)}`);
}
