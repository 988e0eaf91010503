/** Files that come with the page, checked before they are used: a server may answer with an error, or with the page itself in their place. */
import { DiskError } from '../index.ts';

export interface ServedFile {
  /** For people: "The Linux kernel (guest/vmlinuz)". */
  readonly label: string;
  readonly address: string;
  /** Bytes, if known. */
  readonly size?: number | undefined;
  /** Its first bytes, if known. */
  readonly start?: readonly number[];
}

/** Loads a file. Throws `io` of the field `file` with the reason if it cannot be loaded; a later attempt may work. */
export async function loadServed({ label, address, size, start = [] }: ServedFile): Promise<ArrayBuffer> {
  const failed = (why: string, cause?: unknown): DiskError => new DiskError('io', `${label} could not be loaded: ${why}`, { field: 'file', cause });
  let bytes: ArrayBuffer;
  let answer: Response;
  try {
    answer = await fetch(address);
    bytes = await answer.arrayBuffer();
  } catch (error) {
    throw failed('the network or the server does not answer', error);
  }
  if (!answer.ok) throw failed(`the server answers ${answer.status} ${answer.statusText}`.trimEnd());
  const first = new Uint8Array(bytes, 0, Math.min(start.length, bytes.byteLength));
  if (first.length < start.length || start.some((byte, at) => first[at] !== byte)) throw failed('the server sends something else in its place');
  if (size !== undefined && bytes.byteLength !== size)
    throw failed(`the server sends ${bytes.byteLength} bytes, and it has ${size}: it was cut short, or something else is in its place`);
  return bytes;
}
