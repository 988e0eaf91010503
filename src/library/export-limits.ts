/** Exports that are impossible: checked before an export begins, and by pages that offer exports. */
import { check, listOf, objectWith } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import { APPLIANCE } from '../jobs/ova.ts';
import type { ExportOptions } from './entries.ts';
import type { FormatFacts } from './image-formats.ts';
import type { ImageFormat } from './image-record.ts';

/** The facts about an image that are needed; an `ImageEntry` has them. */
export interface ExportFacts {
  /** The image's format. */
  readonly format: ImageFormat;
  /** A passphrase is needed to open it. */
  readonly encrypted: boolean;
  /** How many snapshots are in it, if that is known. */
  readonly snapshots?: number;
}

const FACTS = objectWith('an ImageEntry, or its format and whether it is encrypted', ['format', 'encrypted']);
const WISH = objectWith('an object with the format to export as', ['format']);
const FORMATS = listOf(objectWith('what library.formats() tells of a format', ['name', 'capabilities']), 'the formats that library.formats() lists');
const SINCE = objectWith('{ snapshot } or { bitmap }', []);

/**
 * The error, `refused` or `unsupported`, that exporting the image so would throw; undefined if it is possible. `formats` are
 * those of `library.formats()`, or `allFormats`.
 */
export function exportProblem(
  facts: ExportFacts,
  wish: Pick<ExportOptions, 'format' | 'compressed' | 'since'>,
  formats: readonly FormatFacts[],
): DiskError | undefined {
  check('exportProblem', 'facts', facts, FACTS);
  check('exportProblem', 'wish', wish, WISH);
  check('exportProblem', 'formats', formats, FORMATS);
  if (wish.since !== undefined) check('exportProblem', 'wish.since', wish.since, SINCE);
  const { format, encrypted, snapshots } = facts;
  const problem = (field: string, message: string): DiskError => new DiskError('refused', message, { field });
  const [from, to] = [format, wish.format].map((wanted) => formats.find(({ name }) => name === wanted));
  const same = format === wish.format;
  if (wish.format === APPLIANCE) {
    if (wish.since) return problem('format', `What changed since then can be exported as ${OVERLAY_FORMAT} only`);
    return wish.compressed ? problem('compressed', 'The disk of an appliance is compressed in any case') : undefined;
  }
  if (!to || (!same && !to.capabilities.create))
    return new DiskError('unsupported', `Images of the format ${wish.format} cannot be made`, { field: 'format' });
  if (to.encryption?.always && !same)
    return new DiskError('unsupported', `Only an image of the format ${wish.format} leaves as ${wish.format}`, { field: 'format' });
  if (wish.since) {
    if (wish.format !== OVERLAY_FORMAT) return problem('format', `What changed since then can be exported as ${OVERLAY_FORMAT} only`);
    if (wish.compressed) return problem('compressed', 'Only a whole image can be exported compressed');
    if (!from?.capabilities.snapshots) return problem('since', `A ${format} image keeps no snapshots, so nothing tells what changed since then`);
    if (snapshots === 0 && 'snapshot' in wish.since) return problem('since', 'There is no snapshot in the image to compare with');
  }
  if (!wish.compressed) return undefined;
  if (!to.compressed) return problem('compressed', `An image of the format ${wish.format} cannot be compressed`);
  if (encrypted) return problem('compressed', 'An encrypted image cannot be exported compressed: it would have to be both');
  return undefined;
}
