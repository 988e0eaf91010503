/** What a new LUKS header is made with: QEMU's options, their defaults and refusals, and what it will measure. Pure. */
import { DiskError } from '../base/errors.ts';
import { CIPHER_MODES, type CipherSpec, IV_GENERATORS } from './cipher.ts';
import { HASH_NAMES, type HashName } from './hash-names.ts';
import { KEY_LENGTHS, placesFor, refuseCipher } from './luks-layout.ts';

export interface LuksOptions {
  readonly cipher: CipherSpec;
  readonly hash: HashName;
  /** Bytes. */
  readonly keyLength: number;
  /** Milliseconds that deriving a slot's key is to take. */
  readonly iterTime: number;
}

/** Ciphers of QEMU's that are refused by name. */
const OTHER_CIPHERS = /^(des|3des|cast5-128|(serpent|twofish)-(128|192|256))$/;

type Given = Readonly<Record<string, string | number | boolean>>;

/** Reads the options; `prefix` is `encrypt.` for qcow2. Throws `refused` or `unsupported`, naming the option. */
export function luksOptions(given: Given, format: string, prefix = ''): LuksOptions {
  const choose = <T extends string>(name: string, known: readonly T[], otherwise: T): T => {
    const value = given[prefix + name] ?? otherwise;
    const found = known.find((one) => one === value);
    if (found) return found;
    throw new DiskError('refused', `${format}: Parameter '${name}' does not accept value '${value}'`, { format, field: prefix + name });
  };
  const algorithm = String(given[`${prefix}cipher-alg`] ?? 'aes-256');
  if (OTHER_CIPHERS.test(algorithm))
    throw new DiskError('unsupported', `${format}: the cipher ${algorithm} is not supported (only aes is)`, { format, field: `${prefix}cipher-alg` });
  const mode = choose('cipher-mode', CIPHER_MODES, 'xts');
  const keyLength = (KEY_LENGTHS[choose('cipher-alg', Object.keys(KEY_LENGTHS), 'aes-256')] as number) * (mode === 'xts' ? 2 : 1);
  const ivGenerator = choose('ivgen-alg', IV_GENERATORS, 'plain64');
  const ivHash = choose('ivgen-hash-alg', HASH_NAMES, 'sha256');
  const cipher: CipherSpec = { mode, ivGenerator, ...(ivGenerator === 'essiv' ? { ivHash } : {}) };
  const hash = choose('hash-alg', HASH_NAMES, 'sha256');
  const refusal = refuseCipher(cipher, keyLength);
  if (refusal) throw new DiskError('refused', `${format}: ${refusal.message}`, { format, field: `${prefix}cipher-alg` });
  return { cipher, hash, keyLength, iterTime: iterTime(given[`${prefix}iter-time`], format, `${prefix}iter-time`) };
}

/** Milliseconds; 0 is the default, as in QEMU. */
export function iterTime(given: string | number | boolean | undefined, format: string, field: string): number {
  const value = Number(given ?? 0);
  if (Number.isInteger(value) && value >= 0) return value || 2000;
  throw new DiskError('refused', `${format}: ${field} is a number of milliseconds`, { format, field });
}

/** Bytes of the header that these options make, with its key slots. */
export const luksLength = ({ keyLength }: LuksOptions): number => placesFor(keyLength).payloadOffset;
