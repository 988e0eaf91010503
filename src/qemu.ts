/**
 * The entry `tabdisk/qemu`: QEMU's own words, for programs that take its options and names or answer as its tools and its monitor do. The command line
 * is built on it. Everything else is in the entry `tabdisk`.
 */

export { text as decodeText, utf8 as encodeText } from './base/bytes.ts';
export { SystemError, strerror } from './base/errno.ts';
export { beside, combineNames, type NameStyle, protocolOf } from './base/names.ts';
export { OptionSet } from './base/options.ts';
export { type Inflate, provideInflate } from './compression/compressor.ts';
export { readErrorPolicy, writeErrorPolicy } from './drive/error-policy.ts';
export { blockInfo, blockInfoText, blockStats, blockStatsText } from './drive/report.ts';
export { findDebugger } from './graph/debug-node.ts';
export { BackingFailure } from './graph/format-node.ts';
export { openGraph } from './graph/graph.ts';
export type { GraphOptions, OpenFileOptions, ParentRequest } from './graph/graph-options.ts';
export { type ListRules, parseOptionList } from './graph/option-text.ts';
export { countData } from './jobs/convert.ts';
export type { Debugger } from './layers/blkdebug.ts';
export { checkThrottleLimits, THROTTLE_LIMITS } from './layers/throttle-group.ts';
export { CACHE_MODES, cacheFlags, parseCacheMode } from './node/cache-mode.ts';
