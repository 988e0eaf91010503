/** Names that are unique. */

/** A random UUID (version 4 of RFC 9562). `crypto.randomUUID` is for secure pages only. */
export function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The order of a UUID's bytes where its first three fields are little-endian. */
const MIXED = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/** The UUID at `at` in Microsoft's and VirtualBox's byte order, as text. */
export function uuidAt(bytes: Uint8Array, at: number): string {
  const digits = MIXED.map((index) => (bytes[at + index] as number).toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Writes a UUID at `at` in that order. */
export function setUuid(bytes: Uint8Array, at: number, uuid: string): void {
  const digits = uuid.replaceAll('-', '');
  for (const [part, index] of MIXED.entries()) bytes[at + index] = Number.parseInt(digits.slice(part * 2, part * 2 + 2), 16);
}
