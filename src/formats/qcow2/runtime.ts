/**
 * Options of an open image, under QEMU's names. Those with an effect here: `lazy-refcounts` (which overrules the header), and the cache sizes,
 * of which the L2 tables' is used. The others are read and bounded as in QEMU and change nothing: discards do not reach the file,
 * caches are not emptied by the clock, and overlaps with metadata are always checked.
 */
import { type OptionSet, refusedOption } from '../../base/options.ts';
import { MiB } from '../../base/units.ts';
import type { Header } from './layout.ts';

/** The options with an effect. */
export interface RuntimeOptions {
  readonly lazyRefcounts?: boolean;
  /** Bytes of L2 tables that are kept in memory. */
  readonly l2CacheBytes?: number;
}

const OVERLAP_TEMPLATES = ['none', 'constant', 'cached', 'all'];
const OVERLAP_PLACES = [
  'main-header',
  'active-l1',
  'active-l2',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'inactive-l1',
  'inactive-l2',
  'bitmap-directory',
];
/** No more than this is kept, even if more is asked for: memory is not reserved. */
const MAX_L2_CACHE = 1024 * MiB;
const MAX_SECONDS = 2 ** 32 - 1;

/** Takes the options out. Throws `refused` in QEMU's words. */
export function readRuntimeOptions(options: OptionSet, header: Header): RuntimeOptions {
  const lazyRefcounts = options.flag('lazy-refcounts');
  for (const what of ['request', 'snapshot', 'other']) options.flag(`pass-discard-${what}`);
  for (const place of OVERLAP_PLACES) options.flag(`overlap-check.${place}`);
  const l2CacheBytes = readCacheSizes(options, 2 ** header.clusterBits);
  const seconds = options.number('cache-clean-interval') ?? 0;
  if (seconds > MAX_SECONDS) throw refusedOption('cache-clean-interval', 'Cache clean interval too big');
  if (lazyRefcounts && header.version < 3)
    throw refusedOption('lazy-refcounts', 'Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level');
  requireOverlapTemplate(options.text('overlap-check'), options.text('overlap-check.template'));
  return { ...(lazyRefcounts === undefined ? {} : { lazyRefcounts }), ...(l2CacheBytes === undefined ? {} : { l2CacheBytes }) };
}

function readCacheSizes(options: OptionSet, clusterSize: number): number | undefined {
  const [both, l2, refcounts] = ['cache-size', 'l2-cache-size', 'refcount-cache-size'].map((name) => options.size(name));
  const entry = options.size('l2-cache-entry-size') ?? clusterSize;
  if (both !== undefined) {
    if (l2 !== undefined && refcounts !== undefined)
      throw refusedOption('cache-size', 'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
    if (l2 !== undefined && l2 > both) throw refusedOption('l2-cache-size', 'l2-cache-size may not exceed cache-size');
    if (refcounts !== undefined && refcounts > both) throw refusedOption('refcount-cache-size', 'refcount-cache-size may not exceed cache-size');
  }
  if (entry < 512 || entry > clusterSize || 2 ** Math.round(Math.log2(entry)) !== entry)
    throw refusedOption('l2-cache-entry-size', `L2 cache entry size must be a power of two between 512 and the cluster size (${clusterSize})`);
  const asked = l2 ?? (both === undefined ? undefined : both - (refcounts ?? 0));
  return asked === undefined ? undefined : Math.min(asked, MAX_L2_CACHE);
}

function requireOverlapTemplate(whole: string | undefined, template: string | undefined): void {
  if (whole !== undefined && template !== undefined && whole !== template)
    throw refusedOption(
      'overlap-check',
      `Conflicting values for qcow2 options 'overlap-check' ('${whole}') and 'overlap-check.template' ('${template}')`,
    );
  const value = whole ?? template;
  if (value !== undefined && !OVERLAP_TEMPLATES.includes(value))
    throw refusedOption(
      'overlap-check',
      `Unsupported value '${value}' for qcow2 option 'overlap-check'. Allowed are any of the following: ${OVERLAP_TEMPLATES.join(', ')}`,
    );
}
