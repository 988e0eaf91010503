/** `driver=quorum,children.0.…,children.1.…,vote-threshold=N`: options and children of a quorum, in QEMU's order and words. */
import type { Io } from '../base/io.ts';
import { type OptionSet, refusedOption } from '../base/options.ts';
import { SECTOR } from '../base/units.ts';
import { type QuorumOptions, QuorumStorage } from '../layers/quorum.ts';
import { strongOptions } from './block-name.ts';
import type { NodeRequest, OpenedNode } from './graph-node.ts';

const STRONG = /^(vote-threshold|blkverify|rewrite-corrupted|read-pattern)$/;

/** Opens a quorum. Throws `refused` with QEMU's words. */
export function* openQuorum({ driver, options, place, child }: NodeRequest): Io<OpenedNode> {
  const strong = strongOptions(options, STRONG);
  const count = countChildren(options);
  const voting = takeVoting(options, count);
  if (voting.rewriteCorrupted && place.readOnly) throw refusedOption('read-only', 'Block node is read-only');
  const children: OpenedNode[] = [];
  try {
    for (let index = 0; index < count; index++) children.push(yield* child(`children.${index}`, 'image'));
    const sizes = new Set(children.map(({ storage }) => Math.ceil(storage.size / SECTOR)));
    if (sizes.size > 1) throw refusedOption('children', 'Could not refresh total sector count: Input/output error');
    const { onQuorumReport, onMismatch } = place.graph;
    const storages = children.map(({ storage }) => storage);
    return {
      storage: new QuorumStorage(storages, { ...voting, onReport: onQuorumReport, onMismatch }),
      scattered: true,
      description: { driver, options: strong, children: { children: children.map(({ description }) => description) } },
    };
  } catch (error) {
    for (const { storage } of children) yield* storage.close();
    throw error;
  }
}

/** Children are numbered from 0, without a gap. */
function countChildren(options: OptionSet): number {
  const keys = new Set([...options.entries()].flatMap(([name]) => /^children\.([^.]*)/.exec(name)?.[1] ?? []));
  let count = 0;
  while (keys.has(String(count))) count++;
  if (count !== keys.size) throw refusedOption('children', 'Option children is not a valid array');
  if (count === 0) throw refusedOption('children', 'Number of provided children must be 1 or more');
  return count;
}

function takeVoting(options: OptionSet, count: number): QuorumOptions {
  const negative = /-/.test(String(options.get('vote-threshold')));
  const given = options.number('vote-threshold') ?? 0;
  const threshold = negative ? 0 : given;
  const verify = options.flag('blkverify') ?? false;
  const rewrite = options.flag('rewrite-corrupted') ?? false;
  if (threshold < 1) throw refusedOption('vote-threshold', "Parameter 'vote-threshold' expects a value >= 1");
  if (threshold > count) throw refusedOption('vote-threshold', 'threshold may not exceed children count');
  const pattern = options.text('read-pattern') ?? 'quorum';
  if (pattern === 'fifo') return { threshold, readPattern: 'fifo' };
  if (pattern !== 'quorum') throw refusedOption('read-pattern', 'Please set read-pattern as fifo or quorum');
  if (verify && (count !== 2 || threshold !== 2))
    throw refusedOption('blkverify', 'blkverify=on can only be set if there are exactly two files and vote-threshold is 2');
  if (verify && rewrite) throw refusedOption('rewrite-corrupted', 'rewrite-corrupted=on cannot be used with blkverify=on');
  return { threshold, verify, rewriteCorrupted: rewrite };
}
