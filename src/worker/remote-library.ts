/** The library of the engine, as the page has it. The engine checks arguments (verbs-library.ts). */
import { DiskError } from '../base/errors.ts';
import { type Connection, listen } from './connection.ts';
import type { CreateImageOptions, RemoteLibrary } from './engine.ts';
import type { KeptOnPage } from './served.ts';

/**
 * Made by `connectEngine`. `drain` brings to the engine the bytes that this page keeps above the disks of an image, and resolves to the bytes that stay there
 * because the disks are lost.
 */
export function remoteLibrary(connection: Connection, drain: (imageId: string) => Promise<KeptOnPage[]>): RemoteLibrary {
  return {
    formats: () => connection.call('library.formats', {}),
    list: () => connection.call('library.list', {}),
    create: (options) => connection.call('library.create', { options: options as CreateImageOptions<string> }),
    async overlay(image, options) {
      await drain(image);
      return connection.call('library.overlay', { image, options });
    },
    plan: (files) => connection.call('library.plan', { files }),
    import: (file, options) => connection.job('library.import', { file }, options),
    compact: (image, options = {}) => connection.job('library.compact', { image }, options),
    async export(image, options) {
      const unsaved = await drain(image);
      const { export: number, ...exported } = await connection.job('library.export', { image, unsaved }, options);
      const { signal, onProgress } = options;
      const cancel = () => connection.call('export.cancel', { export: number });
      const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
        {
          async pull(controller) {
            if (signal?.aborted) {
              await cancel();
              throw new DiskError('aborted', 'The job was cancelled', { cause: signal.reason });
            }
            const bytes = await connection.call('export.next', { export: number }, [], { onProgress });
            if (bytes) controller.enqueue(bytes);
            else controller.close();
          },
          cancel,
        },
        { highWaterMark: 2 },
      );
      return { ...exported, stream };
    },
    rename: (image, name) => connection.call('library.rename', { image, name }),
    delete: (image) => connection.call('library.delete', { image }),
    storage: () => connection.call('library.storage', {}),
    /** Called on the page: workers cannot ask for it. */
    persist: async () => (await navigator.storage?.persist?.().catch(() => false)) ?? false,
    onChange: (listener) => listen('library.onChange', connection.libraryListeners, listener),
  };
}
