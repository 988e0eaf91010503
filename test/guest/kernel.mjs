/**
 * A bzImage that starts at once. The code in front of a distribution's kernel unpacks it with XZ, which costs an emulated CPU 2.3 of the boot's 2.7 thousand
 * million instructions; here the host unpacks it when the guest is built. The kernel is then laid out as it lies in memory: a jump where that code was, zeros, and
 * the kernel at the address that it is linked for, so it must be booted with `nokaslr`. The real-mode set-up code stays. The zeros, and the kernel,
 * are gzip's to pack. Offsets are those of the kernel's Documentation/x86/boot.rst and of 32-bit ELF.
 */

import { spawnSync } from 'node:child_process';

/** Where a boot loader puts what follows the set-up code. */
const PROTECTED_MODE = 0x100000;
const XZ_MAGIC = Buffer.from('fd377a585a00', 'hex');
const ELF_MAGIC = Buffer.from('7f454c46', 'hex');
const ELF_LOAD = 1;
const JUMP_LENGTH = 5;
/** Bytes of a kernel in memory, at most. */
const MOST = 48 * 2 ** 20;

function xz(bytes) {
  // The payload's length follows it, which is no part of the stream.
  const { stdout, error } = spawnSync('xz', ['-dc', '--single-stream'], { input: bytes, maxBuffer: 2 * MOST });
  if (error?.code === 'ENOENT') return undefined;
  if (error) throw error;
  return stdout;
}

/** The parts of an ELF program that are loaded, and where it begins. */
function program(elf) {
  if (!elf.subarray(0, 4).equals(ELF_MAGIC)) throw new Error('what the kernel unpacks to is no ELF program');
  const [entry, headers, count] = [elf.readUInt32LE(0x18), elf.readUInt32LE(0x1c), elf.readUInt16LE(0x2c)];
  const segments = [];
  for (let at = headers; at < headers + count * 32; at += 32) {
    const [type, offset, , address, length] = [0, 4, 8, 12, 16].map((field) => elf.readUInt32LE(at + field));
    if (type === ELF_LOAD) segments.push({ address, bytes: elf.subarray(offset, offset + length) });
  }
  return { entry, segments };
}

/** The same kernel, unpacked; as it was if this machine has no `xz`. Throws if it is packed in another way. */
export function unpackedKernel(bzImage) {
  const start = ((bzImage[0x1f1] || 4) + 1) * 512;
  const payload = start + bzImage.readUInt32LE(0x248);
  const packed = bzImage.subarray(payload, payload + bzImage.readUInt32LE(0x24c));
  if (!packed.subarray(0, XZ_MAGIC.length).equals(XZ_MAGIC)) throw new Error('the kernel is not packed with XZ');
  const elf = xz(packed);
  if (elf === undefined) return bzImage;

  const { entry, segments } = program(elf);
  const end = Math.max(...segments.map(({ address, bytes }) => address + bytes.length));
  if (entry < PROTECTED_MODE + JUMP_LENGTH || end > PROTECTED_MODE + MOST) throw new Error(`the kernel lies at ${entry} to ${end}`);
  const memory = Buffer.alloc(end - PROTECTED_MODE);
  for (const { address, bytes } of segments) bytes.copy(memory, address - PROTECTED_MODE);
  // jmp entry
  memory[0] = 0xe9;
  memory.writeInt32LE(entry - (PROTECTED_MODE + JUMP_LENGTH), 1);
  const setUp = Buffer.from(bzImage.subarray(0, start));
  setUp.writeUInt32LE(Math.ceil(memory.length / 16), 0x1f4);
  return Buffer.concat([setUp, memory]);
}
