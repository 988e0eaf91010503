/**
 * Builds the guest that the e2e tests and the demo page boot: a stock Debian
 * i386 kernel, SeaBIOS, and an initramfs with busybox and mkfs.ext4, written to
 * public/guest/ with a manifest. Needs apt-get and dpkg-deb with Debian sources
 * that still carry an i386 kernel (bookworm does); installs nothing. A complete
 * set made by the same recipe is left as it is.
 *
 *   node test/guest/build.mjs [--force]
 *
 * Exit status: 0 done, 3 the packages cannot be had here, 1 anything else.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { unpackedKernel } from './kernel.mjs';
import { KernelModules } from './modules.mjs';
import { PrivateApt, Unavailable } from './packages.mjs';
import { buildInitramfs } from './rootfs.mjs';

// Raise this whenever a change here or beside this file alters the result.
const VERSION = 3;

const OUTPUT = join(dirname(fileURLToPath(import.meta.url)), '../../public/guest');

const EXIT_UNAVAILABLE = 3;

const META_KERNEL = 'linux-image-686';
const PACKAGES = ['seabios', 'busybox-static', 'e2fsprogs', 'libext2fs2', 'libcom-err2', 'libblkid1', 'libuuid1', 'libc6'];

const CMDLINE = [
  // The last console becomes /dev/console; messages would slow the boot.
  'console=ttyS0',
  'console=tty1',
  'quiet',
  'loglevel=3',
  // Self-tests of ciphers alone take a quarter of the boot otherwise.
  'cryptomgr.notests',
  // And files about thousands of trace points another eighth.
  'initcall_blacklist=crypto_kdf108_init,load_system_certificate_list,tracer_init_tracefs',
  // No such bus, and no such attacker, in the emulator.
  'noisapnp',
  'mitigations=off',
  // The addresses that the kernel is linked for (see kernel.mjs), and no distrust of an emulated clock.
  'nokaslr',
  'tsc=reliable',
].join(' ');

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** The manifest of a complete set made by this recipe, or null. */
function existingManifest() {
  try {
    const manifest = JSON.parse(readFileSync(join(OUTPUT, 'manifest.json'), 'utf8'));
    if (manifest.version !== VERSION) return null;
    const complete = manifest.files.every(({ name, size }) => statSync(join(OUTPUT, name)).size === size);
    return complete ? manifest : null;
  } catch {
    return null;
  }
}

function fetchPackages(directory) {
  const apt = new PrivateApt(join(directory, 'apt'), 'i386');
  const complaints = apt.update();
  try {
    const kernel = apt.resolveMeta(META_KERNEL, /^linux-image-\d.*-686$/);
    apt.download([kernel, ...PACKAGES]);
  } catch (error) {
    if (error instanceof Unavailable && complaints) error.message += `\n${complaints}`;
    throw error;
  }
  const root = join(directory, 'root');
  return { root, archives: apt.unpack(root) };
}

function readChecked(path, sizes) {
  const bytes = readFileSync(path);
  if (!sizes(bytes.length)) throw new Error(`${path} has an unexpected size of ${bytes.length} bytes`);
  return bytes;
}

function assemble(root) {
  const versions = readdirSync(join(root, 'lib/modules'));
  if (versions.length !== 1) throw new Error(`expected one kernel, found: ${versions.join(', ')}`);
  const [version] = versions;
  const modules = new KernelModules(join(root, 'lib/modules', version));
  const initramfs = buildInitramfs(root, modules, version);
  const kernel = readChecked(join(root, 'boot', `vmlinuz-${version}`), (size) => size > 1 << 20);
  const bios = join(root, 'usr/share/seabios');
  return {
    // The emulator maps the BIOS so that it ends at 1 MiB: 64 or 128 KiB fit,
    // the 256 KiB variant does not.
    'bios.bin': readChecked(join(bios, 'bios.bin'), (size) => size === 0x10000 || size === 0x20000),
    'vgabios.bin': readChecked(join(bios, 'vgabios-stdvga.bin'), (size) => size <= 0x10000),
    // Both are unpacked by who starts the machine: an emulated CPU would take seconds.
    vmlinuz: gzipSync(unpackedKernel(kernel), { level: 9 }),
    'initrd.img': gzipSync(initramfs, { level: 9 }),
  };
}

/** Writes beside the target and renames, the manifest last: no half a set. */
function publish(files, archives) {
  mkdirSync(OUTPUT, { recursive: true });
  const put = (name, bytes) => {
    const path = join(OUTPUT, name);
    writeFileSync(`${path}.part`, bytes);
    renameSync(`${path}.part`, path);
  };
  rmSync(join(OUTPUT, 'manifest.json'), { force: true });
  const list = Object.entries(files).map(([name, bytes]) => {
    put(name, bytes);
    return { name, size: bytes.length, sha256: sha256(bytes) };
  });
  const manifest = { version: VERSION, cmdline: CMDLINE, files: list, packages: archives };
  put('manifest.json', JSON.stringify(manifest, null, 2) + '\n');
  return manifest;
}

function describe({ files }) {
  const mib = files.reduce((sum, { size }) => sum + size, 0) / 2 ** 20;
  return `${files.length} files, ${mib.toFixed(1)} MiB`;
}

function main() {
  const existing = process.argv.includes('--force') ? null : existingManifest();
  if (existing) {
    console.log(`guest is up to date (version ${VERSION}, ${describe(existing)})`);
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'tabdisk-guest-'));
  try {
    const { root, archives } = fetchPackages(directory);
    const manifest = publish(assemble(root), archives);
    console.log(`guest built (version ${VERSION}, ${describe(manifest)})`);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.error(`The guest cannot be built here. ${error.message}`);
    process.exitCode = EXIT_UNAVAILABLE;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

main();
