/** What stands before each file of a tar archive: POSIX's ustar header. */
import { utf8 } from '../base/bytes.ts';

/** Bytes of a header, and of the unit in which an archive is measured. */
export const TAR_BLOCK = 512;
/** The longest name, in bytes. */
export const MAX_TAR_NAME = 100;

/** The header of a file of `size` bytes; `time` is in seconds since 1970. */
export function tarHeader(name: string, size: number, time: number): Uint8Array {
  const header = new Uint8Array(TAR_BLOCK);
  const put = (at: number, value: string): void => header.set(utf8(value), at);
  const octal = (value: number, digits: number): string => Math.floor(value).toString(8).padStart(digits, '0');
  put(0, name);
  put(100, `${octal(0o644, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`);
  if (size < 8 ** 11) put(124, `${octal(size, 11)}\0`);
  else putBinary(header.subarray(124, 136), size);
  put(136, `${octal(time, 11)}\0`);
  put(156, '0');
  put(257, 'ustar\x0000');
  // The sum counts itself as eight spaces.
  header.fill(0x20, 148, 156);
  put(
    148,
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      6,
    )}\0 `,
  );
  return header;
}

/** A size that eleven octal digits cannot hold: its first bit is set, as GNU's tar has it. */
function putBinary(field: Uint8Array, size: number): void {
  let rest = size;
  for (let at = field.length - 1; at > 0; at--) {
    field[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  field[0] = 0x80;
}
