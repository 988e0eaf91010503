/** Hashes by QEMU's names: apart from the code that computes them, for lists of options. */

/** Bytes of each. */
export const HASH_LENGTHS = { md5: 16, sha1: 20, sha224: 28, sha256: 32, sha384: 48, sha512: 64, ripemd160: 20 } as const;

export type HashName = keyof typeof HASH_LENGTHS;
export const HASH_NAMES = Object.keys(HASH_LENGTHS) as readonly HashName[];
