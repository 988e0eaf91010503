/** What of the cryptographic libraries is used. Imported only by load-primitives.ts, when it is needed: most programs never open an encrypted image. */
export { cbc, ctr, ecb } from '@noble/ciphers/aes.js';
export { md5, ripemd160, sha1 } from '@noble/hashes/legacy.js';
export { pbkdf2, pbkdf2Async } from '@noble/hashes/pbkdf2.js';
export { sha224, sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
