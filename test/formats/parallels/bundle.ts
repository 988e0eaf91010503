/** Parallels disks in folders, laid down and read by what is known of them, apart from the driver. */
import { oldImage } from './image.ts';

export const ROOT = '{5fbaabe3-6958-40ff-92a7-860e329aab41}';
const NOBODY = '{00000000-0000-0000-0000-000000000000}';

export interface BundlePart {
  readonly sectors: number;
  /** By the number of the snapshot, 0 for the lowest: the kind and the name of its file. */
  readonly files: readonly (readonly [kind: 'Compressed' | 'Plain', name: string])[];
}

/** The GUID of a snapshot; that of the uppermost is the usual one. */
export const shotOf = (number: number, count: number): string => (number === count - 1 ? ROOT : `{0000000${number}-1111-2222-3333-444444444444}`);

/** The text of a disk. */
export function bundleText(
  parts: readonly BundlePart[],
  { extra = '', top = true }: { extra?: string; top?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const count = parts[0]?.files.length ?? 0;
  let start = 0;
  const storages = parts.map(({ sectors, files }) => {
    const images = files.map(
      ([kind, name], number) => `<Image><GUID>${shotOf(number, count)}</GUID><Type>${kind}</Type><File>${name}</File></Image>`,
    );
    const storage = `<Storage><Start>${start}</Start><End>${start + sectors}</End><Blocksize>8</Blocksize>\n${images.join('\n')}</Storage>`;
    start += sectors;
    return storage;
  });
  // Not in their order.
  const shots = Array.from({ length: count }, (_, number) => number)
    .reverse()
    .map(
      (number) => `<Shot><GUID>${shotOf(number, count)}</GUID><ParentGUID>${number === 0 ? NOBODY : shotOf(number - 1, count)}</ParentGUID></Shot>`,
    );
  return new TextEncoder().encode(`<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
 <Disk_Parameters><Disk_size>${start}</Disk_size><Cylinders>1</Cylinders><Heads>16</Heads><Sectors>63</Sectors><Padding>0</Padding>${extra}</Disk_Parameters>
 <StorageData>${storages.join('\n')}</StorageData>
 <Snapshots>${top ? `<TopGUID>${ROOT}</TopGUID>` : ''}${shots.join('')}</Snapshots>
</Parallels_disk_image>`);
}

/** A file of a part with these clusters; entries count clusters (`ext`) or sectors. */
export function partFile(sectors: number, clusterSectors: number, clusters: ReadonlyMap<number, Uint8Array>, ext = true): Uint8Array {
  const empty = oldImage(sectors * 512, clusterSectors * 512);
  const unit = clusterSectors * 512;
  const start = Math.ceil(empty.length / unit) * unit;
  const bytes = new Uint8Array(start + clusters.size * unit);
  bytes.set(empty);
  const view = new DataView(bytes.buffer);
  if (ext) bytes.set(new TextEncoder().encode('WithouFreSpacExt'));
  view.setUint32(40, 0, true);
  view.setUint32(48, start / 512, true);
  for (const [place, [index, content]] of [...clusters].entries()) {
    view.setUint32(64 + index * 4, (start + place * unit) / (ext ? unit : 512), true);
    bytes.set(content, start + place * unit);
  }
  return bytes;
}

/** The disk of a part, its files from the uppermost down. */
export function readPart(sectors: number, files: readonly (readonly [kind: string, bytes: Uint8Array])[]): Uint8Array {
  const disk = new Uint8Array(sectors * 512);
  for (const [kind, bytes] of [...files].reverse()) {
    if (kind === 'Plain') {
      disk.set(bytes.subarray(0, disk.length));
      continue;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const unit = view.getUint32(28, true) * 512;
    const counts = new TextDecoder().decode(bytes.subarray(0, 16)) === 'WithouFreSpacExt' ? unit : 512;
    for (let index = 0; index < view.getUint32(32, true); index++) {
      const entry = view.getUint32(64 + index * 4, true);
      const end = Math.min(disk.length, (index + 1) * unit);
      if (entry !== 0) disk.set(bytes.subarray(entry * counts, entry * counts + end - index * unit), index * unit);
    }
  }
  return disk;
}

const elements = (text: string, name: string): string[] =>
  [...text.matchAll(new RegExp(`<${name}>([\\s\\S]*?)</${name}>`, 'g'))].map(([, inner]) => inner as string);
const element = (text: string, name: string): string =>
  (elements(text, name)[0] ?? '').trim().replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));

/** The disk that a text describes, or one of its snapshots, read from its files as they are. The text has nothing hidden in it. */
export function readFolder(text: Uint8Array, file: (name: string) => Uint8Array, shot?: string): Uint8Array {
  const source = new TextDecoder().decode(text);
  const parents = new Map(
    [...source.matchAll(/<Shot[^>]*>([\s\S]*?)<\/Shot>/g)].map(([, one]) => [element(one as string, 'GUID'), element(one as string, 'ParentGUID')]),
  );
  const chain: string[] = [];
  for (let next = shot ?? (element(source, 'TopGUID') || ROOT); next && next !== NOBODY; next = parents.get(next) ?? '') chain.push(next);
  const parts = elements(source, 'Storage').map((storage) => {
    const images = elements(storage, 'Image');
    const files = chain.map((guid) => {
      const image = images.find((one) => element(one, 'GUID') === guid) as string;
      return [element(image, 'Type'), file(element(image, 'File'))] as const;
    });
    const start = Number(element(storage, 'Start'));
    return { start, bytes: readPart(Number(element(storage, 'End')) - start, files) };
  });
  const disk = new Uint8Array(Number(element(source, 'Disk_size')) * 512);
  for (const { start, bytes } of parts) disk.set(bytes, start * 512);
  return disk;
}
