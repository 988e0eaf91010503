/**
 * Kernel modules for the test guest: finds them in an unpacked kernel package,
 * works out which others they need and in which order they must load, and
 * drops what the guest has no use for. The package has no modules.dep (depmod
 * makes it at installation), so the answer comes from each module's own
 * .modinfo strings: `depends=`, `softdep=pre:` and `alias=`.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const SIGNATURE_MAGIC = '~Module signature appended~\n';

// A dash and an underscore are the same thing in a module's name.
const canonical = (name) => name.replaceAll('-', '_');

function* filesBelow(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else yield path;
  }
}

/**
 * Cuts the signature off. The kernel accepts modules without one, and hashing
 * a megabyte of ext4 to verify a signature takes an emulated CPU a while.
 */
function withoutSignature(bytes) {
  const end = bytes.length - SIGNATURE_MAGIC.length;
  if (bytes.toString('latin1', end) !== SIGNATURE_MAGIC) return bytes;
  const signatureLength = bytes.readUInt32BE(end - 4);
  return bytes.subarray(0, end - 12 - signatureLength);
}

/** The `key=value` strings of the ELF section .modinfo. */
function moduleInfo(bytes) {
  const headers = bytes.readUInt32LE(0x20);
  const size = bytes.readUInt16LE(0x2e);
  const at = (index, field) => bytes.readUInt32LE(headers + index * size + field);
  const names = at(bytes.readUInt16LE(0x32), 0x10);
  for (let index = 0; index < bytes.readUInt16LE(0x30); index++) {
    const name = names + at(index, 0);
    if (bytes.toString('latin1', name, name + 9) !== '.modinfo\0') continue;
    const offset = at(index, 0x10);
    const text = bytes.toString('latin1', offset, offset + at(index, 0x14));
    return text
      .split('\0')
      .filter(Boolean)
      .map((line) => {
        const equals = line.indexOf('=');
        return [line.slice(0, equals), line.slice(equals + 1)];
      });
  }
  return [];
}

export class KernelModules {
  /** `directory` is lib/modules/<version> of the unpacked package. */
  constructor(directory) {
    this.paths = new Map();
    for (const path of filesBelow(join(directory, 'kernel'))) {
      const match = /^(.*)\.ko(\.\w+)?$/.exec(basename(path));
      if (match) this.paths.set(canonical(match[1]), { path, packed: Boolean(match[2]) });
    }
    const builtin = readFileSync(join(directory, 'modules.builtin'), 'utf8').split('\n');
    this.builtin = new Set(builtin.map((line) => canonical(basename(line, '.ko'))));
    this.loaded = new Map();
  }

  /** `{name, bytes, needs, aliases}` of one module, or null if it is built in. */
  get(rawName) {
    const name = canonical(rawName);
    if (this.loaded.has(name)) return this.loaded.get(name);
    const found = this.paths.get(name);
    if (!found) {
      if (this.builtin.has(name)) return null;
      throw new Error(`the kernel package has no module ${name}`);
    }
    if (found.packed) throw new Error(`module ${name} is compressed, which this recipe does not expect`);
    const bytes = withoutSignature(readFileSync(found.path));
    const info = moduleInfo(bytes);
    const values = (key) => info.filter(([k]) => k === key).map(([, value]) => value);
    const needs = values('depends')
      .flatMap((list) => list.split(','))
      .filter(Boolean);
    const module = { name, bytes, needs: needs.map(canonical), aliases: values('alias') };
    this.loaded.set(name, module);
    return module;
  }

  /**
   * All that module `name` depends on, directly or not, nearest first: what a
   * line of modules.dep holds, since modprobe does not follow the lines on.
   */
  allNeedsOf(name) {
    return this.inLoadOrder([name])
      .map((module) => module.name)
      .slice(0, -1)
      .reverse();
  }

  /** The named modules and all they depend on, each after its dependencies. */
  inLoadOrder(names) {
    const order = [];
    const visit = (name) => {
      const module = this.get(name);
      if (!module || order.includes(module)) return;
      module.needs.forEach(visit);
      if (!order.includes(module)) order.push(module);
    };
    names.forEach(visit);
    return order;
  }
}
