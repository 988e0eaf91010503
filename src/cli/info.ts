/** `info`: the facts about an image, for people or as JSON, for one image or its whole chain. Backing files are named, not opened. */
import { type Disk, DiskError, type DiskInfo, formatSize, inspect, PLAIN_FORMAT, runSync } from '../index.ts';
import { beside, protocolOf } from '../qemu.ts';
import { type NodeFileStorage, nodeFileStorage } from '../storage/node-file.ts';
import { printUsage } from './help.ts';
import { namedImage, type OpenRequest, withImages } from './images.ts';
import { takeObjects } from './objects.ts';
import { type Options, parseOptions } from './options.ts';
import { findParent } from './parents.ts';
import { jsonText } from './printf.ts';
import { wholeSectors } from './sizes.ts';
import { snapshotTable } from './snapshot-table.ts';
import { Failure, misuse, type Terminal } from './terminal.ts';

/** Runs `info`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = parseOptions(args, {
    short: 'hf:U',
    long: {
      help: 'h',
      format: 'f:',
      output: 'output:',
      'backing-chain': 'backing-chain',
      object: 'object:',
      'image-opts': 'image-opts',
      'force-share': 'U',
    },
  });
  takeObjects(terminal, options);
  if (options.has('h')) return printUsage(terminal, 'info');
  const path = onlyFile(options);
  const output = outputFormat(options);
  const named = namedImage(path, options);
  const infos = await collect(terminal, named, options.has('backing-chain'));
  if (output === 'json') terminal.out(`${jsonText(options.has('backing-chain') ? infos : infos[0])}\n`);
  else terminal.out(infos.map(humanInfo).join('\n'));
  return 0;
}

/** The one file name that many commands take. */
export function onlyFile({ rest }: Options): string {
  const [path] = rest;
  if (path === undefined || rest.length > 1) throw misuse('Expecting one image file name');
  return path;
}

/** The value of `--output`. */
export function outputFormat(options: Options): 'human' | 'json' {
  const output = options.last('output') ?? 'human';
  if (output !== 'human' && output !== 'json') throw new Failure('--output must be used with human or json as argument.');
  return output;
}

type Named = Pick<OpenRequest, 'path' | 'format' | 'imageOpts' | 'forceShare'>;

async function collect(terminal: Terminal, first: Named, wholeChain: boolean): Promise<DiskInfo[]> {
  const infos: DiskInfo[] = [];
  const seen = new Set<string>();
  let next: Named | undefined = first;
  while (next) {
    const { path: file, format: driver, imageOpts, forceShare = false }: Named = next;
    if (seen.has(file)) throw new Failure(`Backing file '${file}' creates an infinite loop.`);
    seen.add(file);
    const kind = driver ?? (imageOpts || protocolOf(file) !== undefined ? undefined : await formatOf(file));
    await withImages(terminal, async (images) => {
      const { disk } = await images.open({ path: file, format: kind, imageOpts, readOnly: true, noBacking: true, forceShare });
      const own = disk.files[0] ?? file;
      infos.push(completed(await disk.info(), own, await parentFile(disk, own, wholeChain)));
      return 0;
    });
    const info = infos.at(-1);
    const backing = info?.['full-backing-filename'];
    next = wholeChain && backing !== undefined ? { path: backing, format: info?.['backing-filename-format'], forceShare } : undefined;
  }
  return infos;
}

/** The format according to the headers, before anything is opened as an image; undefined if opening it will report the fault. */
async function formatOf(path: string): Promise<string | undefined> {
  let storage: NodeFileStorage;
  try {
    storage = nodeFileStorage(path, { readOnly: true, locking: 'off' });
  } catch {
    return undefined;
  }
  try {
    const { format } = await inspect(storage);
    // A file without a mark may hold an image.
    return format === PLAIN_FORMAT ? undefined : format;
  } catch (error) {
    if (error instanceof DiskError) return undefined;
    throw error;
  } finally {
    runSync(storage.close());
  }
}

/** The file of the image below, if the image knows it by its id alone. Throws if it must be there. */
async function parentFile({ node }: Disk, from: string, required: boolean): Promise<string | undefined> {
  const { name, identity, format } = node.driver.backing ?? {};
  if (name !== '' || identity === undefined) return undefined;
  try {
    return await findParent({ from, identity, ...(format === undefined ? {} : { format }) });
  } catch (error) {
    if (required) throw error instanceof DiskError ? new Failure(error.message) : error;
    return undefined;
  }
}

/** Adds the full name of the backing file, as seen from the image's own file, and the size in whole sectors as QEMU counts. */
function completed(info: DiskInfo, path: string, parent?: string): DiskInfo {
  const backing = info['backing-filename'];
  return {
    ...info,
    'virtual-size': wholeSectors(info['virtual-size']),
    ...(backing === undefined ? {} : { 'full-backing-filename': beside(path, backing) }),
    ...(parent === undefined ? {} : { 'full-backing-filename': parent }),
  };
}

function humanInfo(info: DiskInfo): string {
  const size = info['virtual-size'];
  const lines = [
    `image: ${info.filename}`,
    `file format: ${info.format}`,
    `virtual size: ${formatSize(size)} (${size} bytes)`,
    `disk size: ${formatSize(info['actual-size'])}`,
  ];
  if (info.encrypted) lines.push('encrypted: yes');
  if (info['cluster-size'] !== undefined) lines.push(`cluster_size: ${info['cluster-size']}`);
  if (info['dirty-flag']) lines.push('cleanly shut down: no');
  const backing = info['backing-filename'];
  const full = info['full-backing-filename'];
  if (backing !== undefined) lines.push(`backing file: ${backing}${full === backing ? '' : ` (actual path: ${full})`}`);
  else if (full !== undefined) lines.push(`backing file: ${full}`);
  if (info['backing-filename-format'] !== undefined) lines.push(`backing file format: ${info['backing-filename-format']}`);
  let text = `${lines.join('\n')}\n`;
  if (info.snapshots) text += snapshotTable(info.snapshots);
  return text + specificText(info['format-specific']?.data);
}

/** The part of `info` that each format fills in its own way; empty without one. */
export function specificText(data: Readonly<Record<string, unknown>> | undefined): string {
  return data ? `Format specific information:\n${tree(data, 4)}` : '';
}

function tree(data: Readonly<Record<string, unknown>> | readonly unknown[], indent: number): string {
  const margin = ' '.repeat(indent);
  return Object.entries(data)
    .map(([key, value]) => {
      const name = `${margin}${Array.isArray(data) ? `[${key}]` : key.replaceAll('-', ' ')}:`;
      if (typeof value === 'object' && value !== null) return `${name}\n${tree(value as Parameters<typeof tree>[0], indent + 4)}`;
      return `${name} ${String(value)}\n`;
    })
    .join('');
}
