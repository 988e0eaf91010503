/**
 * All that a page without a bundler needs beside the engine, which runs in its worker: as the module `standalone/page.js` (with `worker.js`), and as the
 * global `tabdisk` of the script `tabdisk.iife.js` (with `worker.classic.js`). Disks on the page's own thread are in `standalone/index.js`.
 */
export * from './adapters/v86.ts';
export { DiskError } from './base/errors.ts';
export { JobControl } from './base/job.ts';
export { formatSize, parseSize } from './base/units.ts';
export { connectEngine } from './worker/client.ts';
export { SharedDisk } from './worker/shared-disk.ts';
