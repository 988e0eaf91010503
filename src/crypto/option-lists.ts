/** What LUKS headers are made with and amended by, as lists to show: apart from the code that does it, which few images need. */

import { HASH_NAMES } from './hash-names.ts';

/** Options of a new header without the prefix that qcow2 gives them; for `CreateOption` lists. */
export const LUKS_OPTIONS = [
  { name: 'key-secret', help: 'names the secret with the passphrase' },
  { name: 'cipher-alg', help: 'aes-128, aes-192 (only xts) or aes-256', default: 'aes-256' },
  { name: 'cipher-mode', help: 'xts, cbc, ctr or ecb', default: 'xts' },
  { name: 'ivgen-alg', help: 'plain, plain64 or essiv', default: 'plain64' },
  { name: 'ivgen-hash-alg', help: 'hash of essiv', default: 'sha256' },
  { name: 'hash-alg', help: `hash of key derivation: ${HASH_NAMES.join(', ')}`, default: 'sha256' },
  { name: 'iter-time', help: 'milliseconds that unlocking is to take', default: '2000' },
] as const;

/** What `amend` changes of a header. */
export const LUKS_AMEND_OPTIONS = [
  { name: 'state', help: 'active: adds a passphrase; inactive: erases key slots' },
  { name: 'new-secret', help: 'names the secret with the passphrase to add' },
  { name: 'old-secret', help: 'names the passphrase whose key slots are erased' },
  { name: 'keyslot', help: 'the key slot, 0 to 7' },
  { name: 'iter-time', help: 'milliseconds that unlocking with the new passphrase is to take', default: '2000' },
] as const;
