/**
 * An image as a file: streamed to a place that the user picks if the browser has a save dialog, else collected into a Blob
 * (which the browser may keep on disk) and downloaded.
 */
import { type ExportOptions, type FormatFacts, formatSize, type ImageEntry, OVERLAY_FORMAT, type RemoteLibrary } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { element } from './dom.ts';
import type { JobsList } from './jobs-list.ts';
import type { Messages } from './messages.ts';
import { isAbort, unlessLost } from './words.ts';

/** A form of export that the menu offers. */
export interface ExportWay {
  readonly id: string;
  readonly text: string;
  readonly options: Pick<ExportOptions, 'format' | 'compressed' | 'since'>;
  /** Shown only for images that can be exported so. */
  readonly rare?: true;
}

/** The form in which an image is exported. */
export interface Outcome extends Pick<ExportOptions, 'compressed' | 'since' | 'backing' | 'secret'> {
  readonly format: ExportOptions['format'];
  /** The suggested file name, in place of the image's own. */
  readonly name?: string;
}

interface SaveHandle {
  createWritable(): Promise<WritableStream<Uint8Array>>;
  getFile(): Promise<File>;
  /** Not available in every browser. */
  remove?(): Promise<void>;
}
/** The place for a file. */
type Target = { readonly handle: SaveHandle } | 'download';
type SavePicker = (options: { suggestedName: string }) => Promise<SaveHandle>;

export interface ExportSurroundings {
  readonly library: RemoteLibrary;
  readonly formats: readonly FormatFacts[];
  readonly jobs: JobsList;
  readonly messages: Messages;
}

/** Whether an image may be exported so; asks if the file will be readable by everybody. Once `left` is aborted it may not. */
export async function mayLeave({ name, encrypted }: ImageEntry, to: FormatFacts | undefined, left: AbortSignal): Promise<boolean> {
  if (!encrypted || to?.encryption) return true;
  const text = `“${name}” is encrypted, and ${to ? `a ${to.name} file` : 'an appliance'} is not: anybody who gets the file can read all that is on the disk. As ${OVERLAY_FORMAT} it stays encrypted.`;
  return confirmed({ title: 'Export it without encryption?', text, deed: 'Export unencrypted', danger: true, left });
}

/** Exports `entry`. Call it straight from a click: a save dialog needs one. */
export async function exportImage(entry: ImageEntry, outcome: Outcome, { library, formats, jobs, messages }: ExportSurroundings): Promise<void> {
  const { name = fileName(entry.name, outcome.format, formats), ...options } = outcome;
  try {
    const target = await pick(name);
    if (target === undefined) return;
    await jobs.run(`Exporting ${name}`, async ({ onProgress, signal }) => {
      const job = { ...options, onProgress, signal };
      const image = await library.export(entry.id, job).catch((error) => {
        unlessLost(error);
        return library.export(entry.id, { ...job, salvage: true });
      });
      if (image.missing)
        messages.warning(`Parts of ${name} are missing`, `${formatSize(image.missing)} of it could not be read any more, and are zeros in the file.`);
      if (target === 'download') download(await collect(image.stream, signal), name);
      else await save(image.stream, target.handle, signal);
    });
    messages.success(`${name} is exported`);
  } catch (error) {
    if (!isAbort(error)) messages.error(`${entry.name} was not exported`, error);
  }
}

/** `name` with the ending that the format usually has. */
export function fileName(name: string, format: string, formats: readonly FormatFacts[]): string {
  const endings = formats.flatMap((one) => [one.name, ...one.aliases, ...one.extensions]);
  const ending = endings.find((one) => name.toLowerCase().endsWith(`.${one}`));
  const stem = (ending === undefined ? name : name.slice(0, -ending.length - 1)).replace(/[\\/:*?"<>|]/g, '_');
  return `${stem}.${formats.find((one) => one.name === format)?.extensions[0] ?? format}`;
}

/** Asks for a place. Undefined if the user cancels. */
async function pick(suggestedName: string): Promise<Target | undefined> {
  const picker = (window as { showSaveFilePicker?: SavePicker }).showSaveFilePicker;
  if (picker === undefined) return 'download';
  try {
    return { handle: await picker.call(window, { suggestedName }) };
  } catch (error) {
    // Frames of other origins, and clicks that were too long ago, get no dialog: a download works as well.
    return error instanceof DOMException && error.name === 'AbortError' ? undefined : 'download';
  }
}

/** Writes the file; the image is free again in any case. The save dialog has made an empty file, which is removed after a failure. */
async function save(stream: ReadableStream<Uint8Array>, handle: SaveHandle, signal: AbortSignal): Promise<void> {
  try {
    const file = await handle.createWritable().catch(async (error) => {
      await stream.cancel();
      throw error;
    });
    await stream.pipeTo(file, { signal });
  } catch (error) {
    const left = await handle.getFile().catch(() => undefined);
    if (left?.size === 0) await handle.remove?.().catch(() => undefined);
    throw error;
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
