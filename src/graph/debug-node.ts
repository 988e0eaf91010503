/** The debugging layer as a node of a graph: its options, its rules file, its name; and finding it in an open image. */

import { check } from '../base/arguments.ts';
import { type Io, wait } from '../base/io.ts';
import type { OptionSet } from '../base/options.ts';
import { refusedOption } from '../base/options.ts';
import { ALL, PERMISSION_NAMES, type Permissions } from '../base/permissions.ts';
import type { Disk } from '../disk/disk.ts';
import { DISK } from '../disk/kinds.ts';
import { BlkdebugStorage, type Debugger, type MediumLimits } from '../layers/blkdebug.ts';
import { type DebugRule, parseRules, takeRules } from '../layers/blkdebug-rules.ts';
import { FilterStorage } from '../layers/filter.ts';
import type { BlockNode } from '../node/node.ts';
import { readBytes, type Storage } from '../storage/storage.ts';
import { type Description, strongOptions } from './block-name.ts';
import type { NodePlace, NodeRequest, OpenedNode } from './graph-node.ts';

/** Rules files are short. */
const MAX_CONFIG = 1024 * 1024;
const MAX_LIMIT = 2 ** 31 - 1;

/** The options of the layer itself. */
const OWN = /^(config|align|max-transfer|(opt|max)-(write-zero|discard))$|^(inject-error|set-state|(take|unshare)-child-perms)\./;

/** `blkdebug:RULES:IMAGE`, or the options `config`, `inject-error.*`, `set-state.*` and the child `image`. */
export function* openDebug({ driver, name, options, child, place }: NodeRequest): Io<OpenedNode> {
  const prefixed = name?.startsWith('blkdebug:');
  const parts = prefixed ? /^blkdebug:([^:]*):([\s\S]*)$/.exec(name ?? '') : undefined;
  if (parts === null) throw refusedOption('filename', 'blkdebug requires both config file and image path');
  if (parts?.[1]) options.setDefault('config', parts[1]);
  const strong = strongOptions(options, OWN);
  const config = options.text('config');
  const image = parts?.[2] ?? name ?? options.text('x-image');
  const rules = [...(config === undefined ? [] : yield* readConfig(config, place)), ...takeRules(options)];
  const permissions = takePermissions(options);
  const below = yield* child('image', 'file', image);
  try {
    const limits = takeLimits(options);
    const { onDebug } = place.graph;
    const storage = new BlkdebugStorage(below.storage, rules, { limits, permissions, ...(onDebug ? { tell: onDebug } : {}) });
    const named = [...strong.keys()].every((key) => key === 'config') && below.description.exact !== undefined;
    const exact = named ? `blkdebug:${config ?? ''}:${below.description.exact}` : undefined;
    const description: Description = { driver, options: strong, children: { image: below.description }, exact };
    return { storage, filtered: below.node ?? below.filtered, description };
  } catch (error) {
    yield* below.storage.close();
    throw error;
  }
}

function* readConfig(config: string, { graph }: NodePlace): Io<DebugRule[]> {
  let file: Storage;
  try {
    const opened = graph.openFile(config, { writable: false });
    file = 'then' in opened ? yield* wait(opened) : opened;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw refusedOption('config', `Could not read blkdebug config file: ${reason.replace(/^Could not open '.*?': /s, '')}`);
  }
  try {
    if (file.size > MAX_CONFIG) throw refusedOption('config', `The rules file ${file.name} has ${file.size} bytes, more than ${MAX_CONFIG}`);
    return parseRules(new TextDecoder().decode(yield* readBytes(file, 0, file.size)));
  } finally {
    yield* file.close();
  }
}

/** In QEMU's order; each is checked against those before it. */
function takeLimits(options: OptionSet): MediumLimits {
  const align = options.size('align') ?? 0;
  if (align > MAX_LIMIT || !isPowerOfTwo(align)) throw refusedOption('align', `Cannot meet constraints with align ${align}`);
  const limit = (name: string, unit = 0): number => {
    const value = options.size(name) ?? 0;
    if (value > MAX_LIMIT || (value > 0 && value % Math.max(align, unit, 1) !== 0))
      throw refusedOption(name, `Cannot meet constraints with ${name} ${value}`);
    return value;
  };
  const maxTransfer = limit('max-transfer');
  const optWriteZero = limit('opt-write-zero');
  const maxWriteZero = limit('max-write-zero', optWriteZero);
  const optDiscard = limit('opt-discard');
  return { align, maxTransfer, optWriteZero, maxWriteZero, optDiscard, maxDiscard: limit('max-discard', optDiscard) };
}

/** A power of two, or 0. */
const isPowerOfTwo = (value: number): boolean => value === 0 || Number.isInteger(Math.log2(value));

/** The permissions that the layer takes of the image below, and those it does not share, besides those of its user. */
function takePermissions(options: OptionSet): Permissions {
  return { take: permissionList(options, 'take-child-perms'), share: ALL & ~permissionList(options, 'unshare-child-perms') };
}

function permissionList(options: OptionSet, name: string): number {
  let sum = 0;
  for (const [key, value] of options.child(name).entries()) {
    const bit = PERMISSION_NAMES.findIndex((one) => one.replace(' ', '-') === value);
    if (!/^\d+$/.test(key) || bit < 0)
      throw refusedOption(name, /^\d+$/.test(key) ? `Parameter 'null' does not accept value '${value}'` : `Parameter '${name}' is unexpected`);
    sum |= 1 << bit;
  }
  return sum;
}

/** The debugging layer below an image, if there is one: the first on the way down through the files, not through backing files. */
export function findDebugger(disk: Disk): Debugger | undefined {
  check('findDebugger', 'disk', disk, DISK);
  for (let storage: Storage | undefined = disk.node; storage; storage = below(storage)) if (storage instanceof BlkdebugStorage) return storage;
  return undefined;
}

function below(storage: Storage): Storage | undefined {
  if (storage instanceof FilterStorage) return storage.next;
  return 'driver' in storage ? (storage as BlockNode).driver.storage : undefined;
}
