/**
 * All of qcow2 that opening an image, reading and writing do without, loaded in one piece when the first of it is needed: a bundler makes a
 * chunk for each set of modules that are loaded together, and many small ones weigh more than they save.
 */
export { amend } from './amend.ts';
export { setBacking } from './backing.ts';
export { Qcow2Bitmaps } from './bitmaps.ts';
export { check } from './check.ts';
export { createImage } from './create.ts';
export { cutShort } from './cut-short.ts';
export { takeBitmaps } from './file-bitmaps.ts';
export { readSnapshots } from './file-snapshots.ts';
export { inspectImage } from './inspect.ts';
export { listMetadata } from './map-metadata.ts';
export { measureImage } from './measure.ts';
export { readRuntimeOptions } from './runtime.ts';
export { Qcow2Snapshots } from './snapshots.ts';
export { VmStateArea } from './vm-state.ts';
