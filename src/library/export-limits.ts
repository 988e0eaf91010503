/** What no export can do: asked before one begins, and by pages that offer what can be done. */
import { check, objectWith } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import type { ExportOptions } from './entries.ts';
import type { ImageFormat } from './image-record.ts';

/** What has to be known of an image; an `ImageEntry` will do. */
export interface ExportFacts {
  /** The image's format. */
  readonly format: ImageFormat;
  /** It takes a passphrase to open it. */
  readonly encrypted: boolean;
  /** How many snapshots are in it, if that is known. */
  readonly snapshots?: number;
}

const FACTS = objectWith('an ImageEntry, or its format and whether it is encrypted', ['format', 'encrypted']);
const WISH = objectWith('an object with the format to export as', ['format']);
const SINCE = objectWith('{ snapshot } or { bitmap }', []);

/** Why an image cannot be exported so; undefined if nothing speaks against it. What exporting it would throw, `refused` or `unsupported`. */
export function exportProblem(facts: ExportFacts, wish: Pick<ExportOptions, 'format' | 'compressed' | 'since'>): DiskError | undefined {
  check('exportProblem', 'facts', facts, FACTS);
  check('exportProblem', 'wish', wish, WISH);
  if (wish.since !== undefined) check('exportProblem', 'wish.since', wish.since, SINCE);
  const { format, encrypted, snapshots } = facts;
  const problem = (field: string, message: string): DiskError => new DiskError('refused', message, { field });
  if (wish.format === 'luks' && format !== 'luks')
    return new DiskError('unsupported', 'Only an image of the format luks leaves as luks', { field: 'format' });
  if (wish.since) {
    if (wish.format !== 'qcow2') return problem('format', 'What changed since then can be exported as qcow2 only');
    if (wish.compressed) return problem('compressed', 'Only a whole image can be exported compressed');
    if (format !== 'qcow2') return problem('since', `A ${format} image keeps no snapshots, so nothing tells what changed since then`);
    if (snapshots === 0 && 'snapshot' in wish.since) return problem('since', 'There is no snapshot in the image to compare with');
  }
  if (!wish.compressed) return undefined;
  if (wish.format !== 'qcow2') return problem('compressed', `Only qcow2 can be compressed, not ${wish.format}`);
  if (encrypted) return problem('compressed', 'An encrypted image cannot be exported compressed: it would have to be both');
  return undefined;
}
