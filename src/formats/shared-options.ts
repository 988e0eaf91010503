/** Options of `create` that formats share: callers of the library give them by arguments of their own, the command line by `-o`. */

/** The disk's size: in the list of every format that can be created. */
export const SIZE_OPTION = { name: 'size', kind: 'size', help: 'virtual disk size', said: 'size' } as const;

/** The backing file, of a format that can have one. */
export const BACKING_OPTIONS = [
  { name: 'backing_file', kind: 'text', help: 'name of the backing file, as stored in the image', said: 'backing' },
  { name: 'backing_fmt', kind: 'text', help: "the backing file's format", said: 'backing' },
] as const;
