/**
 * Permissions over the bytes of an image, after QEMU's block layer: each user says which it takes, and which it lets all others have meanwhile.
 * Two users can go together if neither takes what the other does not share. A file's locks carry this from process to process.
 */
import { COUNT, type Kind, needed, optionsOf } from './arguments.ts';

/** The bytes read may be relied upon: no other user changes them half-way. */
export const CONSISTENT_READ = 1;
/** Guest bytes may change. */
export const WRITE = 2;
/** Bytes may be written that read as before. */
export const WRITE_UNCHANGED = 4;
/** The size may change. */
export const RESIZE = 8;
/** All of them. */
export const ALL = 15;

/** QEMU's names, in the order of the bits. */
export const PERMISSION_NAMES = ['consistent read', 'write', 'write unchanged', 'resize'] as const;

/** The permissions a user takes and those it shares: sums of the constants above. */
export interface Permissions {
  /** The uses that this user makes of the bytes. */
  readonly take: number;
  /** The uses that others may make of them meanwhile. */
  readonly share: number;
}

export const PERMISSIONS: Kind = optionsOf<Permissions>({ take: needed(COUNT), share: needed(COUNT) });

/** Nothing is taken, and everything is shared. */
export const NOTHING: Permissions = { take: 0, share: ALL };
/** Reading bytes that no user may change. */
export const READING: Permissions = { take: CONSISTENT_READ, share: CONSISTENT_READ | WRITE_UNCHANGED };
/** Writing bytes that no other user may change. */
export const WRITING: Permissions = { take: CONSISTENT_READ | WRITE | RESIZE, share: CONSISTENT_READ | WRITE_UNCHANGED };
/** Writing guest bytes and nothing else, which others may do too. */
export const SHARED_WRITING: Permissions = { take: CONSISTENT_READ | WRITE | RESIZE, share: ALL & ~RESIZE };

/** The permissions of two users together, as one user to all others. */
export const joined = (one: Permissions, other: Permissions): Permissions => ({ take: one.take | other.take, share: one.share & other.share });

/** The permissions needed for a file that holds guest bytes and nothing else: the file may have to grow, and no other user may make it shorter. */
export const forData = ({ take, share }: Permissions): Permissions => ({ take: take & WRITE ? take | RESIZE : take, share: share & ~RESIZE });

/** The conflict between two users: the first permission that the other does not share, else the first that it takes and should not. */
export function conflict(wanted: Permissions, held: Permissions): { readonly shared: boolean; readonly name: string } | undefined {
  const first = (bits: number) => PERMISSION_NAMES.findIndex((_, bit) => (bits >> bit) & 1);
  const kept = first(wanted.take & ~held.share);
  const taken = first(held.take & ~wanted.share);
  if (kept < 0 && taken < 0) return undefined;
  return { shared: kept < 0, name: PERMISSION_NAMES[kept < 0 ? taken : kept] as string };
}
