/** Disks in the file systems of emulators that Emscripten compiled (entry tabdisk/emscripten). */
export { type DiskFileOptions, type EmscriptenFs, type MountedDisk, mountDisk, type WaitlessDisk } from './emscripten-file.ts';
