/** Options that every block node has, whatever its driver. */
import type { DiskError } from '../base/errors.ts';
import { type OptionSet, refusedOption } from '../base/options.ts';
import type { CommonOptions, NodePlace } from './graph-node.ts';

const NODE_NAME = /^[a-z][-a-z0-9._]{0,30}$/i;

/** Takes the common options out of a node's options. `readOnly`: the node's own value. */
export function takeCommonOptions(options: OptionSet, { common, readOnly: inherited }: NodePlace): { common: CommonOptions; readOnly: boolean } {
  const nodeName = options.text('node-name');
  if (nodeName !== undefined && !NODE_NAME.test(nodeName)) throw refusedOption('node-name', `Invalid node-name: '${nodeName}'`);
  const readOnly = options.flag('read-only');
  options.flag('auto-read-only');
  const shared = options.flag('force-share');
  if (shared && (readOnly === false || (!inherited && readOnly === undefined)))
    throw refusedOption('force-share', 'force-share=on can only be used with read-only images');
  const { writeback } = common.cache;
  const direct = options.flag('cache.direct') ?? common.cache.direct;
  const noFlush = options.flag('cache.no-flush') ?? common.cache.noFlush;
  const discard = options.text('discard');
  if (discard !== undefined && !/^(ignore|off|unmap|on)$/.test(discard)) throw refusedOption('discard', 'Invalid discard option');
  const keepSpace = discard === undefined ? common.keepSpace : discard === 'ignore' || discard === 'off';
  const detect = options.choice('detect-zeroes', ['off', 'on', 'unmap']);
  // A missing `discard` option is not `discard=unmap`, whatever the verb would do.
  if (detect === 'unmap' && (discard === undefined || keepSpace))
    throw refusedOption('detect-zeroes', 'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  return {
    readOnly: readOnly ?? false,
    common: {
      cache: { writeback, direct, noFlush },
      keepSpace,
      forceShare: shared ?? common.forceShare,
      ...(detect === undefined || detect === 'off' ? {} : { detectZeroes: detect }),
    },
  };
}

/** A child that is given by the id of another node. There is never such a node: a command opens a tree. */
export function unknownReference(reference: string, alone = true): DiskError {
  return alone
    ? refusedOption('node-name', `Cannot find device='${reference}' nor node-name='${reference}'`)
    : refusedOption('node-name', 'Cannot reference an existing block device with additional options or a new filename');
}
