/** VHD's checksums, written apart from the driver. */

/** Makes the checksum at byte `at` of a footer or header right. */
export function repairChecksum(bytes: Uint8Array, at: number): void {
  bytes.fill(0, at, at + 4);
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, ~sum >>> 0);
}

/** Makes the checksums of both footers right, and that of the header behind the first. */
export function repairAll(file: Uint8Array): void {
  if (file.length < 2048) return;
  for (const at of [0, file.length - 512]) repairChecksum(file.subarray(at, at + 512), 64);
  repairChecksum(file.subarray(512, 1536), 36);
}

/** The image without its parent. */
export function asDynamic(file: Uint8Array): Uint8Array {
  const bytes = file.slice();
  for (const at of [0, bytes.length - 512]) new DataView(bytes.buffer).setUint32(at + 60, 3);
  repairAll(bytes);
  return bytes;
}
