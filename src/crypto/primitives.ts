/** The parts of the cryptographic libraries that are used. Only load-primitives.ts imports this, when it is needed: most programs open no encrypted image. */
export { cbc, ctr, ecb } from '@noble/ciphers/aes.js';
export { md5, ripemd160, sha1 } from '@noble/hashes/legacy.js';
export { pbkdf2, pbkdf2Async } from '@noble/hashes/pbkdf2.js';
export { sha224, sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
