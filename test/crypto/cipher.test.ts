/** Ciphers against published vectors, and every mode against itself: any run of sectors comes back, and sectors do not depend on runs. */
import { createCipheriv } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { runAsync, runSync } from '../../src/base/io.ts';
import { CIPHER_MODES, type CipherSpec, IV_GENERATORS, sectorCipher } from '../../src/crypto/cipher.ts';
import { pbkdf2 } from '../../src/crypto/hash.ts';
import { HASH_NAMES } from '../../src/crypto/hash-names.ts';
import { loadPrimitives } from '../../src/crypto/load-primitives.ts';
import { EncryptedStorage } from '../../src/crypto/window.ts';
import { memoryStorage } from '../../src/storage/memory.ts';
import { Random } from '../random.ts';

beforeAll(() => runAsync(loadPrimitives()));

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

describe('XTS-AES of IEEE 1619', () => {
  it.each([
    ['vector 1', '00'.repeat(32), 0, '00'.repeat(32), '917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e'],
    [
      'vector 2',
      '11'.repeat(16) + '22'.repeat(16),
      0x3333333333,
      '44'.repeat(32),
      'c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0',
    ],
  ])('%s', (_, key, sector, plain, encrypted) => {
    const cipher = sectorCipher({ mode: 'xts', ivGenerator: 'plain64' }, bytesOf(key));
    const bytes = bytesOf(plain);
    cipher.encrypt(bytes, sector);
    expect(hex(bytes)).toBe(encrypted);
    cipher.decrypt(bytes, sector);
    expect(hex(bytes)).toBe(plain);
  });
});

describe('modes as OpenSSL has them', () => {
  it.each([
    ['xts', 'aes-256-xts', 64],
    ['cbc', 'aes-192-cbc', 24],
    ['ctr', 'aes-256-ctr', 32],
  ] as const)('%s', (mode, name, length) => {
    const random = new Random(7);
    const key = random.bytes(length);
    const plain = random.bytes(3 * 512);
    const bytes = plain.slice();
    sectorCipher({ mode, ivGenerator: 'plain64' }, key).encrypt(bytes, 2 ** 33 + 5);
    for (let i = 0; i < 3; i++) {
      const iv = new Uint8Array(16);
      new DataView(iv.buffer).setBigUint64(0, 2n ** 33n + 5n + BigInt(i), true);
      const theirs = createCipheriv(name, key, iv)
        .setAutoPadding(false)
        .update(plain.subarray(i * 512, i * 512 + 512));
      expect(hex(bytes.subarray(i * 512, i * 512 + 512))).toBe(hex(theirs));
    }
  });
});

const specs = CIPHER_MODES.flatMap((mode) => IV_GENERATORS.map((ivGenerator): CipherSpec => ({ mode, ivGenerator, ivHash: 'sha256' })));

it.each(specs)('$mode-$ivGenerator: a run decrypts to what it was, whole or sector by sector', (spec) => {
  const random = new Random(11);
  const cipher = sectorCipher(spec, random.bytes(32));
  const plain = random.bytes(300 * 512);
  const whole = plain.slice();
  cipher.encrypt(whole, 77);
  const single = plain.slice(200 * 512, 201 * 512);
  cipher.encrypt(single, 277);
  expect(hex(single)).toBe(hex(whole.subarray(200 * 512, 201 * 512)));
  // From a place in memory that is not aligned.
  const shifted = new Uint8Array(whole.length + 1).subarray(1);
  shifted.set(whole);
  cipher.decrypt(shifted, 77);
  expect(Buffer.compare(shifted, plain)).toBe(0);
});

it('a window reads what was written through it, at any offset and length, and the file does not show it', async () => {
  const random = new Random(2);
  const file = memoryStorage();
  const window = new EncryptedStorage(file, sectorCipher({ mode: 'xts', ivGenerator: 'plain64' }, random.bytes(64)), 1024);
  const model = new Uint8Array(1_200_000);
  await runAsync(window.write(0, model));
  for (let i = 0; i < 60; i++) {
    const bytes = new Uint8Array(random.pick([1, 511, 512, 513, 70_000, 600_000])).fill(random.between(1, 255));
    const offset = random.between(0, model.length - bytes.length);
    await runAsync(window.write(offset, bytes));
    model.set(bytes, offset);
  }
  const found = new Uint8Array(model.length - 7);
  runSync(window.read(7, found));
  expect(Buffer.compare(found, model.subarray(7))).toBe(0);
  expect(Buffer.from(file.bytes()).indexOf(Buffer.alloc(32, model[600_000]))).toBe(-1);
});

describe('PBKDF2', () => {
  it.each([
    ['sha1', 2, 'ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957'],
    ['sha256', 2, 'ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43'],
  ] as const)('%s, %i iterations', async (hash, iterations, expected) => {
    const [password, salt] = ['password', 'salt'].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
    expect(hex(runSync(pbkdf2({ hash, password, salt, iterations, length: expected.length / 2 })))).toBe(expected);
  });

  it.each(HASH_NAMES)('%s comes out the same from the platform as from here', async (hash) => {
    const derivation = { hash, password: new Uint8Array([1, 2, 3]), salt: new Uint8Array(32).fill(7), iterations: 4001, length: 40 };
    const platform = await runAsync(pbkdf2(derivation));
    const { crypto } = globalThis;
    Object.defineProperty(globalThis, 'crypto', { value: undefined, configurable: true });
    try {
      expect(hex(await runAsync(pbkdf2(derivation)))).toBe(hex(platform));
    } finally {
      Object.defineProperty(globalThis, 'crypto', { value: crypto, configurable: true });
    }
  });
});
