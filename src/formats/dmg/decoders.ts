/** The decoders of compressed chunks. An image loads those that it needs when it is opened. */
import type { Io } from '../../base/io.ts';
import { lazily } from '../../base/load-part.ts';
import { inflateZlib } from '../../compression/inflate.ts';
import type { CodedKind } from './layout.ts';

/** Fills `out`; returns how many bytes there were. Throws if the bytes are damaged, or would yield more. */
export type Decoder = (bytes: Uint8Array, out: Uint8Array) => number;

const bzip2 = lazily(() => import('../../compression/bzip2.ts'));
const lzfse = lazily(() => import('../../compression/lzfse.ts'));
const xz = lazily(() => import('../../compression/xz.ts'));
const adc = lazily(() => import('../../compression/adc.ts'));

/** The decoder of a kind of chunk. */
export function* loadDecoder(kind: CodedKind): Io<Decoder> {
  if (kind === 'bzip2') return (yield* bzip2()).decodeBzip2;
  if (kind === 'lzfse') return (yield* lzfse()).decodeLzfse;
  if (kind === 'lzma') return (yield* xz()).decodeXz;
  if (kind === 'adc') return (yield* adc()).decodeAdc;
  return (bytes, out) => {
    out.set(inflateZlib(bytes, out.length));
    return out.length;
  };
}
