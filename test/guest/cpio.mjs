/**
 * A small writer of "newc" cpio archives, the format Linux expects of an
 * initramfs. It knows just what the test guest needs: directories, regular
 * files, symbolic links and character devices, all owned by root, with a
 * fixed time so that the same input gives the same bytes.
 */

const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

// Any constant does; a date keeps the guest's `ls -l` from showing 1970.
const FIXED_MTIME = Date.UTC(2024, 0, 1) / 1000;

const hex8 = (n) => n.toString(16).padStart(8, '0').toUpperCase();
const padTo4 = (length) => Buffer.alloc((4 - (length % 4)) % 4);

export class CpioWriter {
  constructor() {
    this.chunks = [];
    this.inode = 1;
    this.directories = new Set();
  }

  /** Adds a directory, and before it each parent that is still missing. */
  directory(path, mode = 0o755) {
    if (path === '' || this.directories.has(path)) return;
    const slash = path.lastIndexOf('/');
    if (slash > 0) this.directory(path.slice(0, slash));
    this.directories.add(path);
    this.#entry(path, S_IFDIR | mode, Buffer.alloc(0), { links: 2 });
  }

  file(path, content, mode = 0o644) {
    this.#parents(path);
    this.#entry(path, S_IFREG | mode, Buffer.from(content));
  }

  symlink(path, target) {
    this.#parents(path);
    this.#entry(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  characterDevice(path, major, minor, mode = 0o600) {
    this.#parents(path);
    this.#entry(path, S_IFCHR | mode, Buffer.alloc(0), { major, minor });
  }

  /** The finished archive, ended by its trailer and padded to 512 bytes. */
  finish() {
    this.#entry('TRAILER!!!', 0, Buffer.alloc(0));
    const archive = Buffer.concat(this.chunks);
    return Buffer.concat([archive, Buffer.alloc((512 - (archive.length % 512)) % 512)]);
  }

  #parents(path) {
    const slash = path.lastIndexOf('/');
    if (slash > 0) this.directory(path.slice(0, slash));
  }

  #entry(path, mode, content, { links = 1, major = 0, minor = 0 } = {}) {
    const name = Buffer.from(path + '\0');
    const fields = [this.inode++, mode, 0, 0, links, FIXED_MTIME, content.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from('070701' + fields.map(hex8).join(''));
    // Header plus name, and content, are each padded to a multiple of four.
    this.chunks.push(header, name, padTo4(header.length + name.length));
    this.chunks.push(content, padTo4(content.length));
  }
}
