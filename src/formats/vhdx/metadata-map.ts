/** Where a VHDX file holds metadata. */
import { MiB } from '../../base/units.ts';
import type { MetadataExtent } from '../tools.ts';
import type { Parts } from './parts.ts';

/** See `ImageTools.metadata`. */
export function metadataOf({ facts, headers }: Parts): MetadataExtent[] {
  const { logOffset, logLength } = headers.header;
  return [
    { hostOffset: 0, length: MiB, what: 'headers' },
    { hostOffset: logOffset, length: logLength, what: 'log' },
    { hostOffset: facts.bat.start, length: facts.bat.end - facts.bat.start, what: 'BAT' },
    { hostOffset: facts.region.start, length: facts.region.end - facts.region.start, what: 'metadata' },
  ];
}
