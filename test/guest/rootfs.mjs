/**
 * The guest's root file system: puts busybox, mkfs.ext4, its libraries, kernel
 * modules and a few start-up scripts into one initramfs archive. Everything
 * stays in RAM; the disks of the emulator are left alone until the user (or a
 * test) mounts one.
 */

import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CpioWriter } from './cpio.mjs';

const MODULE_DIRECTORY = 'lib/modules';

// Loaded at boot, so that /dev/sda and /dev/sr0 exist when the shell starts.
const BOOT_MODULES = ['sd_mod', 'sr_mod', 'ata_piix'];

// Loaded by the kernel itself when a mount or an open asks for them; crc32c is
// what libcrc32c and ext4 look up by name at run time.
const DEMAND_MODULES = ['crc32c_generic', 'ext4', 'isofs', 'floppy', 'vfat', 'nls_cp437', 'nls_ascii', 'nls_utf8'];

// `mount` without -t tries these in turn, which makes the kernel load them.
const FILE_SYSTEMS = 'ext4\nvfat\niso9660\n';

const E2FS_PROGRAMS = ['sbin/mke2fs', 'sbin/e2fsck', 'sbin/dumpe2fs'];
const E2FS_NAMES = {
  'sbin/mkfs.ext2': 'mke2fs',
  'sbin/mkfs.ext3': 'mke2fs',
  'sbin/mkfs.ext4': 'mke2fs',
  'sbin/fsck.ext4': 'e2fsck',
};
const LIBRARY_DIRECTORIES = ['lib/i386-linux-gnu', 'usr/lib/i386-linux-gnu'];

const INITTAB = `::sysinit:/etc/rc
ttyS0::respawn:-/bin/sh
tty1::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r -t ext4,ext3,ext2,vfat,iso9660
`;

const RC = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
# Opening one of these makes the kernel load the floppy driver.
mknod /dev/fd0 b 2 0
mknod /dev/fd1 b 2 1
modprobe -a ${BOOT_MODULES.join(' ')}
hostname tabdisk
`;

// Both shells read this. Only the serial one says GUEST READY, and only once:
// init starts a new shell when one ends. TERM=dumb keeps colours out of its
// output, and the great width keeps the shell from breaking the lines it echoes.
// This busybox shell prefers its own applets to files, hence the alias.
const PROFILE = `export PATH=/sbin:/bin HOME=/root
alias mke2fs=/sbin/mke2fs
PS1='tabdisk# '
cd
case "$(tty)" in
/dev/ttyS0)
  export TERM=dumb
  stty cols 1000 rows 50
  if [ ! -e /tmp/ready ]; then
    : > /tmp/ready
    echo
    echo GUEST READY
  fi
  ;;
/dev/tty1)
  export TERM=linux
  clear
  cat /etc/banner
  ;;
esac
`;

const BANNER = `
  tabdisk guest: /dev/sda is your disk.

  To try it:
    mkfs.ext4 /dev/sda          make a file system (erases the disk)
    mount /dev/sda /mnt         use it
    date > /mnt/note; sync      write something that stays

`;

/**
 * Those of the `available` libraries that ELF file `bytes` names anywhere in its
 * string tables: all it needs, its interpreter among them, and at worst one more.
 */
function neededLibraries(bytes, available) {
  const text = bytes.toString('latin1');
  return available.filter((name) => text.includes(`\0${name}\0`));
}

/** Every shared library below `packages`, by soname: its file's content. */
function librariesOf(packages) {
  const found = new Map();
  for (const directory of LIBRARY_DIRECTORIES) {
    for (const name of readdirSync(join(packages, directory))) {
      if (!/\.so\.\d+$/.test(name)) continue;
      found.set(name, realpathSync(join(packages, directory, name)));
    }
  }
  return found;
}

function addE2fsprogs(cpio, packages) {
  const libraries = librariesOf(packages);
  const names = [...libraries.keys()];
  const wanted = new Set();
  const want = (bytes) => {
    for (const name of neededLibraries(bytes, names)) {
      if (wanted.has(name)) continue;
      wanted.add(name);
      want(readFileSync(libraries.get(name)));
    }
  };
  for (const program of E2FS_PROGRAMS) {
    const bytes = readFileSync(join(packages, program));
    cpio.file(`sbin/${basename(program)}`, bytes, 0o755);
    want(bytes);
  }
  for (const [path, target] of Object.entries(E2FS_NAMES)) cpio.symlink(path, target);
  for (const name of [...wanted].sort()) {
    // The loader's path is written into each program: /lib/ld-linux.so.2.
    cpio.file(`lib/${name}`, readFileSync(libraries.get(name)), 0o755);
  }
  cpio.file('etc/mke2fs.conf', readFileSync(join(packages, 'etc/mke2fs.conf')));
}

/**
 * The applets a busybox has, read from its table of names: it may be unable to
 * run on the building machine. The table starts with "[" and "[[".
 */
function appletsOf(busybox) {
  const start = busybox.indexOf('\0[\0[[\0', 0, 'latin1') + 1;
  const end = busybox.indexOf('\0\0', start, 'latin1');
  const names = busybox.toString('latin1', start, end).split('\0');
  for (const expected of ['sh', 'init', 'modprobe', 'mount', 'sha256sum']) {
    if (!names.includes(expected)) throw new Error(`busybox has no applet ${expected}`);
  }
  return names;
}

function addBusybox(cpio, packages) {
  const busybox = readFileSync(join(packages, 'bin/busybox'));
  cpio.file('bin/busybox', busybox, 0o755);
  // mke2fs is e2fsprogs' here; busybox's makes ext2 only.
  const skip = new Set(['busybox', 'mke2fs']);
  for (const name of appletsOf(busybox)) {
    if (!skip.has(name)) cpio.symlink(`bin/${name}`, 'busybox');
  }
  // The kernel and init look for these by absolute path.
  for (const name of ['init', 'modprobe', 'poweroff', 'reboot', 'halt']) {
    cpio.symlink(`sbin/${name}`, '../bin/busybox');
  }
}

function addModules(cpio, modules, version) {
  const base = `${MODULE_DIRECTORY}/${version}`;
  const all = modules.inLoadOrder([...BOOT_MODULES, ...DEMAND_MODULES]);
  const dependencies = [];
  const aliases = [];
  for (const { name, bytes, aliases: names } of all) {
    cpio.file(`${base}/${name}.ko`, bytes);
    const files = modules.allNeedsOf(name).map((need) => `${need}.ko`);
    dependencies.push(`${name}.ko: ${files.join(' ')}`.trimEnd());
    for (const alias of names) aliases.push(`alias ${alias} ${name}`);
  }
  cpio.file(`${base}/modules.dep`, dependencies.join('\n') + '\n');
  cpio.file(`${base}/modules.alias`, aliases.join('\n') + '\n');
}

/** The uncompressed initramfs, from packages unpacked at `packages`. */
export function buildInitramfs(packages, modules, version) {
  const cpio = new CpioWriter();
  for (const path of ['dev', 'proc', 'sys', 'tmp', 'mnt', 'root', 'run']) cpio.directory(path);
  // Before devtmpfs is mounted, init finds its console here.
  cpio.characterDevice('dev/console', 5, 1);
  cpio.symlink('init', 'sbin/init');
  cpio.symlink('etc/mtab', '/proc/mounts');
  cpio.file('etc/inittab', INITTAB);
  cpio.file('etc/rc', RC, 0o755);
  cpio.file('etc/profile', PROFILE);
  cpio.file('etc/banner', BANNER);
  cpio.file('etc/filesystems', FILE_SYSTEMS);
  cpio.file('etc/passwd', 'root::0:0:root:/root:/bin/sh\n');
  addBusybox(cpio, packages);
  addE2fsprogs(cpio, packages);
  addModules(cpio, modules, version);
  return cpio.finish();
}
