import { expect, test } from 'vitest';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { exportImage } from '../../src/library/export.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

test('an image leaves in another format and compressed, whatever the export was told besides', async () => {
  for (const [from, format, compressed] of [
    ['raw', 'qcow2', false],
    ['qcow2', 'raw', false],
    ['qcow2', 'qcow2', true],
  ] as const) {
    const held = memoryStorage();
    const disk = await createDisk(held, { format: from, size: 1 << 20 });
    await disk.write(70_000, new Uint8Array(1000).fill(7));
    await disk.flush();
    const target = memoryStorage();
    const record = { id: 'a', name: 'a', format: from, place: 'opfs', created: 0, changed: 0, encrypted: false } as never;
    const source = { record, open: disk, lost: true };
    const options = { format, compressed, salvage: true, onProgress: () => {} } as const;
    const made = await exportImage(source, options, async () => ({ create: async () => target, reopen: async () => target, remove: async () => {} }));
    const bytes = new Uint8Array(await new Response(made.stream).arrayBuffer());
    const again = await openDisk(memoryStorage(bytes), { format });
    expect(await again.read(70_000, 1000)).toEqual(new Uint8Array(1000).fill(7));
  }
});
