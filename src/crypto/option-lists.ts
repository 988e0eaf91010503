/** The options with which LUKS headers are made and amended. The lists are apart from the code that uses them, which few images need. */
import type { DeclaredOption } from '../base/declared-options.ts';
import { HASH_NAMES } from './hash-names.ts';

const ITER_TIME = { name: 'iter-time', kind: 'count', help: 'milliseconds that unlocking is to take; 0 is the default' } as const;

/** Options of a new header, without the prefix that a format gives them. */
export const LUKS_OPTIONS = [
  { name: 'key-secret', kind: 'secret', help: 'names the secret with the passphrase' },
  {
    name: 'cipher-alg',
    kind: 'choice',
    values: ['aes-128', 'aes-192', 'aes-256'],
    elsewhere: {
      values: [...['des', '3des', 'cast5-128'], ...['serpent-128', 'serpent-192', 'serpent-256'], ...['twofish-128', 'twofish-192', 'twofish-256']],
      refusal: 'the cipher {value} is not supported (only aes is)',
    },
    help: 'the cipher; aes-192 only with the mode xts',
    default: 'aes-256',
  },
  { name: 'cipher-mode', kind: 'choice', values: ['xts', 'cbc', 'ctr', 'ecb'], help: 'how blocks are chained', default: 'xts' },
  {
    name: 'ivgen-alg',
    kind: 'choice',
    values: ['plain', 'plain64', 'essiv'],
    help: 'how the initial vectors of sectors are made',
    default: 'plain64',
  },
  { name: 'ivgen-hash-alg', kind: 'choice', values: HASH_NAMES, help: 'hash of essiv', default: 'sha256' },
  { name: 'hash-alg', kind: 'choice', values: HASH_NAMES, help: 'hash of key derivation', default: 'sha256' },
  { ...ITER_TIME, default: 2000 },
] as const satisfies readonly DeclaredOption[];

/** The options of `amend` for a header. */
export const LUKS_AMEND_OPTIONS = [
  { name: 'state', kind: 'choice', values: ['active', 'inactive'], help: 'active: adds a passphrase; inactive: erases key slots' },
  { name: 'new-secret', kind: 'secret', help: 'names the secret with the passphrase to add' },
  { name: 'old-secret', kind: 'secret', help: 'names the passphrase whose key slots are erased' },
  {
    name: 'keyslot',
    kind: 'count',
    most: 7,
    help: 'the key slot',
    refusal: 'Invalid keyslot {value} specified, must be between 0 and 7',
  },
  ITER_TIME,
] as const satisfies readonly DeclaredOption[];
