/**
 * The LUKS1 header on disk (cryptsetup's LUKS On-Disk Format Specification, version 1.2.3). Pure: bytes in, values out; integers are
 * big-endian, offsets count from the header's start and are in bytes here. Every field is bounded before it is used: lengths by the
 * known ciphers, places by the room before the payload, iterations by the speed of a machine.
 */
import { roundUp, text, utf8, view } from '../base/bytes.ts';
import { corrupt, type DiskError, unsupported } from '../base/errors.ts';
import { SECTOR } from '../base/units.ts';
import { CIPHER_MODES, type CipherSpec, IV_GENERATORS } from './cipher.ts';
import { digestLength, MAX_ITERATIONS } from './hash.ts';
import { HASH_NAMES, type HashName } from './hash-names.ts';

export const LUKS_MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] as const;
export const HEADER_LENGTH = 592;
export const SLOTS = 8;
/** All programs write this number, and QEMU insists on it. */
export const STRIPES = 4000;
export const SALT_LENGTH = 32;
export const DIGEST_LENGTH = 20;
/** The first key material starts here, and each slot's on a multiple of it. */
const SLOT_ALIGNMENT = 4096;
const SLOT_AT = 208;
const SLOT_LENGTH = 48;
const ACTIVE = 0x00ac71f3;
const INACTIVE = 0x0000dead;

/** Bytes of an AES key, by QEMU's names. */
export const KEY_LENGTHS = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 } as const;

export interface KeySlot {
  readonly active: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Bytes from the header's start to the slot's key material. */
  readonly offset: number;
}

export interface LuksHeader {
  readonly cipher: CipherSpec;
  readonly hash: HashName;
  readonly payloadOffset: number;
  readonly keyLength: number;
  readonly digest: Uint8Array;
  readonly digestSalt: Uint8Array;
  readonly digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly KeySlot[];
}

/** Bytes of a slot's key material. */
export const materialLength = ({ keyLength }: Pick<LuksHeader, 'keyLength'>): number => keyLength * STRIPES;

/** QEMU's name of the cipher: `aes-256`. */
export function cipherName({ cipher, keyLength }: Pick<LuksHeader, 'cipher' | 'keyLength'>): string {
  return `aes-${(cipher.mode === 'xts' ? keyLength / 2 : keyLength) * 8}`;
}

/** Reads a header. `room`: bytes available for it, its key material and the rest. `format` names the image in errors. */
export function parseLuks(bytes: Uint8Array, room: number, format: string): LuksHeader {
  const parser = new Parser(bytes, format);
  if (bytes.length < HEADER_LENGTH || LUKS_MAGIC.some((byte, i) => bytes[i] !== byte)) throw parser.wrong('magic', 0, 'there is no LUKS header');
  const version = parser.data.getUint16(6);
  if (version !== 1) throw unsupported(format, `LUKS version ${version} is not supported`, { field: 'LUKS version', offset: 6 });
  const keyLength = parser.data.getUint32(108);
  const header: LuksHeader = {
    cipher: parser.cipher(keyLength),
    hash: parser.hash(),
    payloadOffset: parser.data.getUint32(104) * SECTOR,
    keyLength,
    digest: bytes.slice(112, 132),
    digestSalt: bytes.slice(132, 164),
    digestIterations: parser.iterations(164, 'mk-digest-iter', 'the master key digest'),
    uuid: parser.name(168, 40, 'uuid'),
    slots: Array.from({ length: SLOTS }, (_, index) => parser.slot(index)),
  };
  requirePlaces(header, room, parser);
  return header;
}

/** Checks that key material lies between header and payload, without overlaps, and that the payload starts in the file. */
function requirePlaces(header: LuksHeader, room: number, parser: Parser): void {
  const { payloadOffset, slots } = header;
  if (payloadOffset > room || payloadOffset < SLOT_ALIGNMENT)
    throw parser.wrong('payload-offset', 104, `the payload offset is ${payloadOffset}, of ${room} bytes`);
  const length = materialLength(header);
  for (const [index, { offset }] of slots.entries()) {
    const field = 'key-material-offset';
    const at = SLOT_AT + index * SLOT_LENGTH + 40;
    if (offset < SLOT_ALIGNMENT) throw parser.wrong(field, at, `key slot ${index} overlaps the LUKS header`);
    if (offset + length > payloadOffset) throw parser.wrong(field, at, `key slot ${index} overlaps the encrypted payload`);
    const other = slots.findIndex((slot, before) => before < index && Math.abs(slot.offset - offset) < length);
    if (other >= 0) throw parser.wrong(field, at, `key slots ${other} and ${index} overlap`);
  }
}

class Parser {
  readonly data: DataView;
  readonly #bytes: Uint8Array;
  readonly #format: string;

  constructor(bytes: Uint8Array, format: string) {
    this.#bytes = bytes;
    this.#format = format;
    this.data = view(bytes);
  }

  wrong(field: string, offset: number, message: string): DiskError {
    return corrupt(this.#format, message, { field: `LUKS ${field}`, offset });
  }

  #unknown(field: string, offset: number, message: string): DiskError {
    return unsupported(this.#format, message, { field: `LUKS ${field}`, offset });
  }

  /** A name, which ends with a zero byte. */
  name(at: number, length: number, field: string): string {
    const end = this.#bytes.subarray(at, at + length).indexOf(0);
    if (end < 0) throw this.wrong(field, at, `the ${field} has no end`);
    return text(this.#bytes.subarray(at, at + end));
  }

  hash(): HashName {
    const name = this.name(72, 32, 'hash-spec');
    return this.#hash(name, 'hash-spec', 72);
  }

  #hash(name: string, field: string, at: number): HashName {
    const found = HASH_NAMES.find((one) => one === name);
    if (!found) throw this.#unknown(field, at, `the hash ${JSON.stringify(name)} is not supported (${HASH_NAMES.join(', ')} are)`);
    return found;
  }

  cipher(keyLength: number): CipherSpec {
    const name = this.name(8, 32, 'cipher-name');
    if (name !== 'aes') throw this.#unknown('cipher-name', 8, `the cipher ${JSON.stringify(name)} is not supported (only aes is)`);
    const words = this.name(40, 32, 'cipher-mode');
    const [, modeName, generatorName, , hashName] = /^([^-]*)-([^:]*)(:(.*))?$/.exec(words) ?? [];
    const mode = CIPHER_MODES.find((one) => one === modeName);
    const ivGenerator = IV_GENERATORS.find((one) => one === generatorName);
    if (!mode || !ivGenerator) throw this.#unknown('cipher-mode', 40, `the cipher mode ${JSON.stringify(words)} is not supported`);
    const ivHash = hashName === undefined ? undefined : this.#hash(hashName, 'cipher-mode', 40);
    const refusal = refuseCipher({ mode, ivGenerator, ...(ivHash ? { ivHash } : {}) }, keyLength);
    if (refusal) throw this.#unknown(refusal.field, refusal.field === 'key-bytes' ? 108 : 40, refusal.message);
    return { mode, ivGenerator, ...(ivHash ? { ivHash } : {}) };
  }

  iterations(at: number, field: string, what: string): number {
    const count = this.data.getUint32(at);
    if (count === 0) throw this.wrong(field, at, `the iteration count of ${what} is zero`);
    if (count > MAX_ITERATIONS)
      throw this.#unknown(field, at, `${what} asks for ${count} iterations, more than the ${MAX_ITERATIONS} that are computed`);
    return count;
  }

  slot(index: number): KeySlot {
    const at = SLOT_AT + index * SLOT_LENGTH;
    const state = this.data.getUint32(at);
    if (state !== ACTIVE && state !== INACTIVE) throw this.wrong('active', at, `the state of key slot ${index} is 0x${state.toString(16)}`);
    const stripes = this.data.getUint32(at + 44);
    if (stripes !== STRIPES) throw this.wrong('stripes', at + 44, `key slot ${index} is corrupted (stripes ${stripes} != ${STRIPES})`);
    const active = state === ACTIVE;
    return {
      active,
      iterations: active ? this.iterations(at + 4, 'iterations', `key slot ${index}`) : this.data.getUint32(at + 4),
      salt: this.#bytes.slice(at + 8, at + 8 + SALT_LENGTH),
      offset: this.data.getUint32(at + 40) * SECTOR,
    };
  }
}

/** The reason why a cipher cannot be used with keys of this length, if there is one. */
export function refuseCipher({ mode, ivGenerator, ivHash }: CipherSpec, keyLength: number): { field: string; message: string } | undefined {
  const lengths: number[] = Object.values(KEY_LENGTHS);
  if (!lengths.includes(mode === 'xts' ? keyLength / 2 : keyLength))
    return { field: 'key-bytes', message: `AES with ${keyLength} key bytes in mode ${mode} is not supported` };
  if ((keyLength * STRIPES) % SECTOR !== 0)
    return { field: 'key-bytes', message: `aes-192 is supported in mode xts only: in mode ${mode} its key material does not fill whole sectors` };
  if (ivGenerator !== 'essiv') return undefined;
  if (!ivHash) return { field: 'cipher-mode', message: 'the IV generator essiv needs a hash' };
  const length = digestLength(ivHash);
  if (!lengths.includes(length)) return { field: 'cipher-mode', message: `No AES cipher with key size ${length} available` };
  return undefined;
}

/** The header's bytes, up to where the first key material may start. */
export function encodeLuks(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH);
  const data = view(bytes);
  const { mode, ivGenerator, ivHash } = header.cipher;
  bytes.set(LUKS_MAGIC);
  data.setUint16(6, 1);
  bytes.set(utf8('aes'), 8);
  bytes.set(utf8(`${mode}-${ivGenerator}${ivHash ? `:${ivHash}` : ''}`), 40);
  bytes.set(utf8(header.hash), 72);
  data.setUint32(104, header.payloadOffset / SECTOR);
  data.setUint32(108, header.keyLength);
  bytes.set(header.digest, 112);
  bytes.set(header.digestSalt, 132);
  data.setUint32(164, header.digestIterations);
  bytes.set(utf8(header.uuid), 168);
  for (const [index, slot] of header.slots.entries()) {
    const at = SLOT_AT + index * SLOT_LENGTH;
    data.setUint32(at, slot.active ? ACTIVE : INACTIVE);
    data.setUint32(at + 4, slot.iterations);
    bytes.set(slot.salt, at + 8);
    data.setUint32(at + 40, slot.offset / SECTOR);
    data.setUint32(at + 44, STRIPES);
  }
  return bytes;
}

/** The places of slots and payload in a new header: as in QEMU. */
export function placesFor(keyLength: number): { slots: number[]; payloadOffset: number } {
  const step = roundUp(keyLength * STRIPES, SLOT_ALIGNMENT);
  const slots = Array.from({ length: SLOTS }, (_, index) => SLOT_ALIGNMENT + index * step);
  return { slots, payloadOffset: SLOT_ALIGNMENT + SLOTS * step };
}
