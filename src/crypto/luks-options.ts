/** The options of a new LUKS header: QEMU's names, defaults and refusals, and the header's length. Pure. */
import type { OptionValues } from '../base/declared-options.ts';
import { DiskError } from '../base/errors.ts';
import type { CipherSpec } from './cipher.ts';
import type { HashName } from './hash-names.ts';
import { KEY_LENGTHS, placesFor, refuseCipher } from './luks-layout.ts';
import type { LUKS_OPTIONS } from './option-lists.ts';

export interface LuksOptions {
  readonly cipher: CipherSpec;
  readonly hash: HashName;
  /** Bytes. */
  readonly keyLength: number;
  /** Milliseconds that the derivation of a slot's key is to take. */
  readonly iterTime: number;
}

/** The values of the list of options, as they are read. */
export type LuksValues = OptionValues<typeof LUKS_OPTIONS>;

/** Makes a plan of the options. Throws `refused` for options that contradict each other; `prefix` is the format's prefix of their names. */
export function luksOptions(values: LuksValues, format: string, prefix = ''): LuksOptions {
  const { 'cipher-mode': mode, 'ivgen-alg': ivGenerator, 'ivgen-hash-alg': ivHash, 'hash-alg': hash } = values;
  const keyLength = KEY_LENGTHS[values['cipher-alg']] * (mode === 'xts' ? 2 : 1);
  const cipher: CipherSpec = { mode, ivGenerator, ...(ivGenerator === 'essiv' ? { ivHash } : {}) };
  const refusal = refuseCipher(cipher, keyLength);
  if (refusal) throw new DiskError('refused', `${format}: ${refusal.message}`, { format, field: `${prefix}cipher-alg` });
  return { cipher, hash, keyLength, iterTime: iterTime(values['iter-time']) };
}

/** Milliseconds; 0 is the default, as in QEMU. */
export const iterTime = (given = 0): number => given || 2000;

/** Bytes of the header that these options make, with its key slots. */
export const luksLength = ({ keyLength }: LuksOptions): number => placesFor(keyLength).payloadOffset;
