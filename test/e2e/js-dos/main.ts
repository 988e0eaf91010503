/** A page with js-dos's emulators and disks of the engine's: what js-dos.test.ts drives. */
import { type JsDosTransport, jsDosTransport } from '../../../src/adapters/js-dos.ts';
import { connectEngine, type Engine } from '../../../src/index.ts';

/** The part of js-dos that is used. */
interface CommandInterface {
  fsReadFile(path: string): Promise<Uint8Array>;
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

/** Runs DOS until it has made the file `DONE.TXT`, saves, and returns the image's file in base 64. */
async function run({ emulator, way, commands, big }: Machine): Promise<string> {
  const engine = await connectEngine(new Worker(new URL('./engine.ts', import.meta.url), { type: 'module' }), { library: emulator + way });
  const image = await bringIn(engine, way);
  const disk = image === '' ? undefined : await engine.open(image);
  const handle = await disk?.share();
  const transport = await jsDosTransport(new Worker(`${emulator}-${way === 'own' ? 'own' : 'given'}.js`), {
    module: await WebAssembly.compileStreaming(fetch(`emulators/${emulator}.wasm`)),
    ...(handle && way === 'file' ? { files: { '/disk.img': handle } } : {}),
    ...(handle && way === 'sockdrive' ? { sockdrives: { 'https://tabdisk/disk': handle } } : {}),
    onError: (error) => said.push(`${error.kind}: ${error.message}`),
  });
  const contents = new Uint8Array(big).map((_, i) => (i * i) >> 8);
  const dosboxConf = ['[autoexec]', 'mount c .', ...commands, 'echo done > c:\\done.txt'].join('\n');
  console.log('transport');
  const ci = await emulators.backend([{ dosboxConf, jsdosConf: { version: '8' } }, { path: 'big.dat', contents }], transport);
  ci.events().onMessage((...message) => { console.log(message.join(' ')); said.push(message.join(' ')); });
  ci.events().onStdout((words) => { console.log(words); said.push(words); });
  console.log('started');
  const until = performance.now() + 60_000;
  while (!(await ci.fsReadFile('DONE.TXT').catch(() => undefined))) {
    if (performance.now() > until) throw new Error(`DOS does not end:\n${said.join('\n')}`);
    await new Promise((after) => setTimeout(after, 200));
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
