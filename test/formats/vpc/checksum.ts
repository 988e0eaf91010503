/** VHD's checksum, written apart from the driver. */

/** Makes the checksum at byte `at` of a footer or header right. */
export function repairChecksum(bytes: Uint8Array, at: number): void {
  bytes.fill(0, at, at + 4);
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, ~sum >>> 0);
}
