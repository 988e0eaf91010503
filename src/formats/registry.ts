/** The formats there are, found by name or by probing. Raw scores lowest, so it is found only where nothing else fits. */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import type { FormatDescriptor } from './driver.ts';

/** Bytes from the start of a file that formats are recognised by. */
export const PROBE_LENGTH = 2048;

/** The descriptor with this name or alias. Throws `unsupported` and lists what there is. */
export function findFormat(formats: readonly FormatDescriptor[], name: string): FormatDescriptor {
  const found = formats.find((format) => format.name === name) ?? formats.find((format) => format.aliases.includes(name));
  if (found) return found;
  const known = formats.map((format) => format.name).join(', ');
  throw new DiskError('unsupported', `Unknown format "${name}". Known: ${known}`, { field: 'format' });
}

/** The descriptor that recognises these first bytes of a file best. */
export function probeFormat(formats: readonly FormatDescriptor[], head: Uint8Array, file: { size: number; name: string }): FormatDescriptor {
  let best: FormatDescriptor | undefined;
  let bestScore = 0;
  for (const format of formats) {
    const score = format.probe(head, file);
    if (score > bestScore) {
      best = format;
      bestScore = score;
    }
  }
  if (!best) throw new DiskError('wrong-format', `${file.name} is not in a format that was asked for`, { field: 'format' });
  return best;
}

/** Reads the start of a storage and recognises its format. */
export function* probeStorage(formats: readonly FormatDescriptor[], storage: Storage): Io<FormatDescriptor> {
  const head = yield* readBytes(storage, 0, Math.min(PROBE_LENGTH, storage.size));
  return probeFormat(formats, head, storage);
}
