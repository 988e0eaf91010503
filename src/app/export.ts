/**
 * An image as a file: streamed into a place that the user picks where the browser has a save dialog, else collected into a Blob
 * (which the browser may keep on disk) and downloaded.
 */
import { type ExportOptions, formatSize, type ImageEntry, type RemoteLibrary } from '../index.ts';
import { element } from './dom.ts';
import type { JobsList } from './jobs-list.ts';
import type { Messages } from './messages.ts';
import { isAbort, unlessLost } from './words.ts';

/** What the user can ask for. */
export type ExportWish = 'qcow2' | 'compressed' | 'raw' | 'changes';

/** How an image leaves. */
export interface Outcome extends Pick<ExportOptions, 'compressed' | 'since' | 'backing' | 'secret'> {
  readonly format: 'qcow2' | 'raw';
  /** The suggested file name, in place of the image's own. */
  readonly name?: string;
}

interface SaveHandle {
  createWritable(): Promise<WritableStream<Uint8Array>>;
}
type SavePicker = (options: { suggestedName: string }) => Promise<SaveHandle>;

export interface ExportSurroundings {
  readonly library: RemoteLibrary;
  readonly jobs: JobsList;
  readonly messages: Messages;
}

/** Exports `entry`. Call it straight from a click: a save dialog needs one. */
export async function exportImage(entry: ImageEntry, outcome: Outcome, { library, jobs, messages }: ExportSurroundings): Promise<void> {
  const { name = fileName(entry.name, outcome.format), ...options } = outcome;
  try {
    const handle = await pick(name);
    await jobs.run(`Exporting ${name}`, async ({ onProgress, signal }) => {
      const job = { ...options, onProgress, signal };
      const image = await library.export(entry.id, job).catch((error) => {
        unlessLost(error);
        return library.export(entry.id, { ...job, salvage: true });
      });
      if (image.missing)
        messages.warning(`Parts of ${name} are missing`, `${formatSize(image.missing)} of it could not be read any more, and are zeros in the file.`);
      if (handle !== undefined) await image.stream.pipeTo(await handle.createWritable(), { signal });
      else download(await collect(image.stream, signal), name);
    });
    messages.success(`${name} is exported`);
  } catch (error) {
    if (!isAbort(error)) messages.error(`${entry.name} was not exported`, error);
  }
}

/** `name` with the ending that the format usually has. */
export function fileName(name: string, format: 'qcow2' | 'raw'): string {
  const stem = name.replace(/\.(qcow2?|img|raw|iso|ima|dd|bin)$/i, '').replace(/[\\/:*?"<>|]/g, '_');
  return `${stem}.${format === 'qcow2' ? 'qcow2' : 'img'}`;
}

async function pick(suggestedName: string): Promise<SaveHandle | undefined> {
  const picker = (window as { showSaveFilePicker?: SavePicker }).showSaveFilePicker;
  try {
    return await picker?.call(window, { suggestedName });
  } catch (error) {
    if (isAbort(error)) throw error;
    // Frames of other origins, and clicks that were too long ago, get no dialog: a download does as well.
    return undefined;
  }
}

/** The stream as one Blob, made piece by piece so that the browser can put it on disk. */
async function collect(stream: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<Blob> {
  const stoppable = stream.pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), { signal });
  return new Response(stoppable as ReadableStream<Uint8Array<ArrayBuffer>>).blob();
}

function download(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = element('a', { attributes: { href: address, download: name, hidden: true } });
  document.body.append(link);
  link.click();
  link.remove();
  // The download has its own hold on the bytes once it has begun.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
