/**
 * Sector ciphers: AES in the modes of dm-crypt and QEMU (xts, cbc, ctr, ecb), with the initialisation vector made from the sector's number
 * (plain, plain64, essiv). Sectors have 512 bytes. Pure; a run of sectors is encrypted at once, because the block cipher is fastest on runs.
 * `loadPrimitives` must be called before. XTS is IEEE 1619 over the library's block cipher; ESSIV hashes the key and encrypts the sector's number with it.
 */
import { divideUp, setU64le, view } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { SECTOR } from '../base/units.ts';
import { digest } from './hash.ts';
import type { HashName } from './hash-names.ts';
import { primitives } from './load-primitives.ts';

export const CIPHER_MODES = ['xts', 'cbc', 'ctr', 'ecb'] as const;
export type CipherMode = (typeof CIPHER_MODES)[number];
export const IV_GENERATORS = ['plain', 'plain64', 'essiv'] as const;
export type IvGenerator = (typeof IV_GENERATORS)[number];

/** How the sectors of an image are encrypted. The key's length determines which AES it is; XTS takes two keys of one length in a row. */
export interface CipherSpec {
  readonly mode: CipherMode;
  readonly ivGenerator: IvGenerator;
  /** For essiv: its digest must be as long as an AES key. */
  readonly ivHash?: HashName;
}

/** Encrypts and decrypts in place. `bytes` are whole sectors (the last may end after any 16 bytes); the number is that of the first. */
export interface SectorCipher {
  encrypt(bytes: Uint8Array, firstSector: number): void;
  decrypt(bytes: Uint8Array, firstSector: number): void;
}

const refuse = (): never => {
  throw new DiskError('refused', 'The image is encrypted and was opened without its key', { field: 'key-secret' });
};
/** In place of a cipher whose key was not given. */
export const LOCKED_CIPHER: SectorCipher = { encrypt: refuse, decrypt: refuse };

const BLOCK = 16;
/** Sectors that are processed at a time. */
const RUN = 128;

/** The cipher for a key. The key is used as it is and must not change. */
export function sectorCipher(spec: CipherSpec, key: Uint8Array): SectorCipher {
  const ivs = vectors(spec, key);
  switch (spec.mode) {
    case 'xts':
      return inRuns(xts(key.subarray(0, key.length / 2), key.subarray(key.length / 2), ivs));
    case 'cbc':
      return inRuns(chained(key, ivs));
    case 'ctr':
      return inRuns(counted(key, ivs));
    case 'ecb':
      return inRuns({ encrypt: (run) => block(key).encrypt(run, run), decrypt: (run) => block(key).decrypt(run, run) });
  }
}

/** One run of sectors in memory that is aligned for words. */
type RunCipher = Record<'encrypt' | 'decrypt', (run: Uint8Array, firstSector: number) => void>;

const block = (key: Uint8Array) => primitives().ecb(key, { disablePadding: true });

/** Cuts a request into runs and copies each to memory that is aligned for words. */
function inRuns(cipher: RunCipher): SectorCipher {
  const buffer = new Uint8Array(RUN * SECTOR);
  const over = (direction: 'encrypt' | 'decrypt') => (bytes: Uint8Array, firstSector: number) => {
    for (let at = 0; at < bytes.length; at += buffer.length) {
      const piece = bytes.subarray(at, at + buffer.length);
      const run = buffer.subarray(0, piece.length);
      run.set(piece);
      cipher[direction](run, firstSector + at / SECTOR);
      piece.set(run);
    }
  };
  return { encrypt: over('encrypt'), decrypt: over('decrypt') };
}

/** Makes the initialisation vectors of `count` sectors, 16 bytes each. */
type Vectors = (firstSector: number, count: number) => Uint8Array;

function vectors({ ivGenerator, ivHash = 'sha256' }: CipherSpec, key: Uint8Array): Vectors {
  const plain = (firstSector: number, count: number) => {
    const ivs = new Uint8Array(count * BLOCK);
    const data = view(ivs);
    for (let i = 0; i < count; i++) {
      if (ivGenerator === 'plain') data.setUint32(i * BLOCK, (firstSector + i) % 2 ** 32, true);
      else setU64le(data, i * BLOCK, firstSector + i);
    }
    return ivs;
  };
  if (ivGenerator !== 'essiv') return plain;
  const salt = digest(ivHash, key);
  return (firstSector, count) => block(salt).encrypt(plain(firstSector, count));
}

function xts(dataKey: Uint8Array, tweakKey: Uint8Array, ivs: Vectors): RunCipher {
  const through = (direction: 'encrypt' | 'decrypt') => (run: Uint8Array, firstSector: number) => {
    const tweaks = tweaksOf(block(tweakKey).encrypt(ivs(firstSector, divideUp(run.length, SECTOR))), run.length);
    xor(run, tweaks);
    block(dataKey)[direction](run, run);
    xor(run, tweaks);
  };
  return { encrypt: through('encrypt'), decrypt: through('decrypt') };
}

/** Tweaks of all blocks: the tweak of each sector's first block, doubled again and again in GF(2^128). */
function tweaksOf(firsts: Uint8Array, length: number): Uint8Array {
  const tweaks = new Uint8Array(length);
  const from = view(firsts);
  const to = view(tweaks);
  for (let at = 0, sector = 0; at < length; sector += BLOCK) {
    let a = from.getUint32(sector, true);
    let b = from.getUint32(sector + 4, true);
    let c = from.getUint32(sector + 8, true);
    let d = from.getUint32(sector + 12, true);
    for (const end = Math.min(length, at + SECTOR); at < end; at += BLOCK) {
      to.setUint32(at, a, true);
      to.setUint32(at + 4, b, true);
      to.setUint32(at + 8, c, true);
      to.setUint32(at + 12, d, true);
      const carry = d >>> 31;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ (carry * 0x87);
    }
  }
  return tweaks;
}

/** Both arrays are aligned and consist of whole blocks. */
function xor(bytes: Uint8Array, other: Uint8Array): void {
  const to = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const from = new Uint32Array(other.buffer, other.byteOffset, other.length / 4);
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) ^ (from[i] as number);
}

function chained(key: Uint8Array, ivs: Vectors): RunCipher {
  return {
    encrypt: (run, firstSector) => {
      const starts = ivs(firstSector, divideUp(run.length, SECTOR));
      for (let at = 0, iv = 0; at < run.length; at += SECTOR, iv += BLOCK) {
        const sector = run.subarray(at, at + SECTOR);
        primitives()
          .cbc(key, starts.subarray(iv, iv + BLOCK), { disablePadding: true })
          .encrypt(sector, sector);
      }
    },
    decrypt: (run, firstSector) => {
      // The bytes that each block was mixed with: the block before it, or the vector at the start of a sector.
      const mixed = new Uint8Array(run.length);
      mixed.set(run.subarray(0, run.length - BLOCK), BLOCK);
      const starts = ivs(firstSector, divideUp(run.length, SECTOR));
      for (let at = 0, iv = 0; at < run.length; at += SECTOR, iv += BLOCK) mixed.set(starts.subarray(iv, iv + BLOCK), at);
      block(key).decrypt(run, run);
      xor(run, mixed);
    },
  };
}

function counted(key: Uint8Array, ivs: Vectors): RunCipher {
  const through = (run: Uint8Array, firstSector: number) => {
    const starts = ivs(firstSector, divideUp(run.length, SECTOR));
    for (let at = 0, iv = 0; at < run.length; at += SECTOR, iv += BLOCK) {
      const sector = run.subarray(at, at + SECTOR);
      sector.set(
        primitives()
          .ctr(key, starts.subarray(iv, iv + BLOCK))
          .encrypt(sector),
      );
    }
  };
  return { encrypt: through, decrypt: through };
}
