/** Archives and packed files for tests: made by the real tools, or by hand where these make none such. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';

/** A folder in which the real tools work. */
export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'tabdisk-wrappers-'));

  put(name: string, bytes: Uint8Array | string): string {
    mkdirSync(dirname(join(this.path, name)), { recursive: true });
    writeFileSync(join(this.path, name), bytes);
    return name;
  }

  read = (name: string): Uint8Array<ArrayBuffer> => new Uint8Array(readFileSync(join(this.path, name)));

  /** A file for an import. */
  file = (name: string): File => new File([this.read(name)], name.split('/').at(-1) ?? name);

  /** Runs a tool here; returns what it says. */
  run(tool: string, ...args: string[]): Buffer {
    return execFileSync(tool, args, { cwd: this.path, stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 28 });
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A disk with a partition table's mark, zeros, and bytes that are hard to pack. */
export function rawDisk(size = 3 * 1024 * 1024 + 512, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let state = seed;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const stretch = (at >> 16) % 4;
    bytes[at] = stretch === 0 ? state >>> 24 : stretch === 1 ? 65 + ((at >> 3) % 20) : stretch === 2 ? (state >>> 30) + 48 : 0;
  }
  bytes[510] = 0x55;
  bytes[511] = 0xaa;
  return bytes;
}

interface ZipFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly method?: number;
  readonly flags?: number;
  readonly crc?: number;
  readonly size?: number;
  /** Where its header is said to be. */
  readonly offset?: number;
}

/** A ZIP archive, with anything in its records. */
export function zipOf(files: readonly ZipFile[]): Uint8Array<ArrayBuffer> {
  const pieces: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { path, bytes, method = 8, flags = 0, crc = crc32(bytes), size = bytes.length, offset } of files) {
    const packed = method === 8 ? deflateRawSync(bytes) : Buffer.from(bytes);
    const name = Buffer.from(path);
    const shared = Buffer.alloc(26);
    for (const [place, value] of [
      [0, 20],
      [2, flags],
      [4, method],
      [22, name.length],
    ] as const)
      shared.writeUInt16LE(value, place);
    for (const [place, value] of [
      [10, crc],
      [14, packed.length],
      [18, size],
    ] as const)
      shared.writeUInt32LE(value, place);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), shared, name, packed]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset ?? at, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\0'), shared, rest, name]));
    pieces.push(local);
    at += local.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(at, 16);
  return new Uint8Array(Buffer.concat([...pieces, list, end]));
}

interface TarFile {
  readonly path: string;
  readonly bytes?: Uint8Array;
  readonly size?: string;
  readonly kind?: string;
}

/** A tar archive, with anything in its headers. */
export function tarOf(files: readonly TarFile[]): Uint8Array<ArrayBuffer> {
  const pieces = files.flatMap(({ path, bytes = new Uint8Array(0), size = `${bytes.length.toString(8).padStart(11, '0')}\0`, kind = '0' }) => {
    const header = Buffer.alloc(512);
    header.write(path, 0);
    header.write(size, 124, 'latin1');
    header.write(' '.repeat(8), 148);
    header.write(kind, 156);
    header.write('ustar\x0000', 257);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    return [header, Buffer.from(bytes), Buffer.alloc(-bytes.length & 511)];
  });
  return new Uint8Array(Buffer.concat([...pieces, Buffer.alloc(1024)]));
}

/** The description of a machine. */
export const ovfOf = (disks: readonly { readonly href: string; readonly more?: string }[], { name = 'My PC', memory = 256 } = {}): string =>
  `<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r">
  <References>${disks.map(({ href, more = '' }, i) => `<File ovf:id="f${i}" ovf:href="${href}" ${more}/>`).join('')}</References>
  <DiskSection><Info>Disks</Info>${disks
    .map((_, i) => `<Disk ovf:diskId="d${i}" ovf:fileRef="f${i}" ovf:capacity="${i + 3}" ovf:capacityAllocationUnits="byte * 2^20"/>`)
    .join('')}<Disk ovf:diskId="empty" ovf:capacity="8"/></DiskSection>
  <VirtualSystem ovf:id="vm"><Name>${name}</Name><VirtualHardwareSection><Info/>
    <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>${memory}</rasd:VirtualQuantity></Item>
    ${disks.map((_, i) => `<Item><rasd:HostResource>ovf:/disk/d${disks.length - 1 - i}</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>`).join('\n')}
  </VirtualHardwareSection></VirtualSystem>
</ovf:Envelope>`;
