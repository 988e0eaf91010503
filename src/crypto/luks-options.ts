/** What a new LUKS header is made with: QEMU's options, their defaults and refusals, and what it will measure. Pure. */
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
  /** Milliseconds that deriving a slot's key is to take. */
  readonly iterTime: number;
}

/** What the list of options gives, read. */
export type LuksValues = OptionValues<typeof LUKS_OPTIONS>;

/** Makes a plan of the options. Throws `refused` for what does not go together; `prefix` is what the format puts before their names. */
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
