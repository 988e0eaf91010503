/** A page with js-dos's emulators and disks of the engine's: what js-dos.test.ts drives. */
import { type JsDosTransport, jsDosTransport } from '../../../src/adapters/js-dos.ts';
import { connectEngine, type Engine } from '../../../src/index.ts';

/** The part of js-dos that is used. */
interface CommandInterface {
  exit(): Promise<void>;
  events(): { onStdout(heard: (text: string) => void): void; onMessage(heard: (kind: string, ...said: unknown[]) => void): void };
}

declare const emulators: { backend(init: unknown[], transport: JsDosTransport): Promise<CommandInterface> };

export interface Machine {
  /** `wdosbox` or `wdosbox-x`. */
  readonly emulator: string;
  /** The image, as a file `/disk.img`, as the sockdrive `https://tabdisk/disk`, or as a file over a disk that the emulator's worker opens itself. */
  readonly way: 'file' | 'sockdrive' | 'own';
  /** Lines for DOS after `mount c .`. */
  readonly commands: readonly string[];
  /** Bytes of a file `BIG.DAT` on drive C. */
  readonly big: number;
  /** A byte of the disk that is 0 until the machine is done; without it the machine is done when DOS has worked the commands off. */
  readonly mark?: number;
}

const said: string[] = [];
const text = (array: Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve((reader.result as string).split(',')[1] ?? '');
    reader.readAsDataURL(new Blob([array as Uint8Array<ArrayBuffer>]));
  });

async function bringIn(engine: Engine, way: Machine['way']): Promise<string> {
  const file = new File([await (await fetch('disk.qcow2')).blob()], 'disk.qcow2');
  if (way !== 'own') return (await engine.library.import(file, { name: 'disk' })).id;
  const folder = await navigator.storage.getDirectory();
  const writable = await (await folder.getFileHandle('disk.qcow2', { create: true })).createWritable();
  await writable.write(file);
  await writable.close();
  return '';
}

async function bringOut(engine: Engine, image: string): Promise<string> {
  if (image === '') {
    const file = await (await (await navigator.storage.getDirectory()).getFileHandle('disk.qcow2')).getFile();
    return text(new Uint8Array(await file.arrayBuffer()));
  }
  const { stream } = await engine.library.export(image, { format: 'qcow2' });
  return text(new Uint8Array(await new Response(stream).arrayBuffer()));
}

/** Runs DOS until it is done, saves, and returns the image's file in base 64. */
async function run({ emulator, way, commands, big, mark }: Machine): Promise<string> {
  const engine = await connectEngine(new Worker(new URL('./engine.ts', import.meta.url), { type: 'module' }), {
    library: `${emulator} ${way} ${Date.now()}`,
  });
  const image = await bringIn(engine, way);
  const disk = image === '' ? undefined : await engine.open(image);
  const handle = await disk?.share();
  const transport = await jsDosTransport(new Worker(`${emulator}-${way === 'own' ? 'own' : 'given'}.js`), {
    module: await WebAssembly.compileStreaming(fetch(`emulators/${emulator}.wasm`)),
    ...(handle && way === 'file' ? { files: { '/disk.img': handle } } : {}),
    ...(handle && way === 'sockdrive' ? { sockdrives: { 'https://tabdisk/disk': handle } } : {}),
    onError: (error) => said.push(`${error.kind}: ${error.message}\n`),
  });
  const contents = new Uint8Array(big).map((_, i) => (i * i) >> 8);
  const dosboxConf = '[autoexec]\nmount c .\nc:\ngo.bat\n';
  const batch = new TextEncoder().encode([...commands, 'echo all done', ''].join('\r\n'));
  const ci = await emulators.backend(
    [
      { dosboxConf, jsdosConf: { version: '8' } },
      { path: 'go.bat', contents: batch },
      { path: 'big.dat', contents },
    ],
    transport,
  );
  ci.events().onMessage((...message) => said.push(`${message.join(' ')}\n`));
  let output = '';
  ci.events().onStdout((words) => {
    output += words;
    said.push(words);
  });
  const until = performance.now() + 300_000;
  const done = async () => (disk && mark !== undefined ? (await disk.read(mark, 1))[0] !== 0 : /^all done/m.test(output));
  while (!(await done())) {
    if (performance.now() > until) throw new Error(`DOS does not end:\n${said.join('')}`);
    await new Promise((after) => setTimeout(after, 50));
  }
  await transport.sync();
  await ci.exit();
  transport.exit();
  await disk?.close();
  const bytes = await bringOut(engine, image);
  await engine.close();
  return bytes;
}

Object.assign(window, { jsDos: { run, said } });
