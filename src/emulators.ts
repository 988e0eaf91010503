/** Disks for emulators that cannot wait, all in one script: the entry of `tabdisk/standalone/emulators.iife.js`, for classic workers. */

export * from './adapters/emscripten.ts';
export * from './adapters/js-dos.ts';
export { DiskError } from './base/errors.ts';
export { SharedDisk, type SharedDiskHandle } from './worker/shared-disk.ts';
