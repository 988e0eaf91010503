/** Parallels images that no program here makes. */

/** An empty image of the first kind: entries count sectors, and clusters need not lie in a grid. */
export function oldImage(size: number, clusterSize: number): Uint8Array {
  const entries = Math.ceil(size / clusterSize);
  const bytes = new Uint8Array(Math.ceil((64 + entries * 4) / 512) * 512);
  const data = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode('WithoutFreeSpace'));
  for (const [at, value] of [
    [16, 2],
    [20, 16],
    [28, clusterSize / 512],
    [32, entries],
    [36, size / 512],
    [40, 7],
    [48, bytes.length / 512],
  ] as const)
    data.setUint32(at, value, true);
  return bytes;
}
