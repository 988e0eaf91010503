/**
 * Permissions over the bytes of an image, after QEMU's block layer: each user says what it takes, and what it lets all others have meanwhile.
 * Two users get on with each other if neither takes what the other does not share. A file's locks carry this from process to process.
 */
import { COUNT, type Kind, needed, optionsOf } from './arguments.ts';

/** What is read may be relied upon: nobody changes it half-way. */
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

/** What a user takes and what it shares: sums of the constants above. */
export interface Permissions {
  /** What this user does with the bytes. */
  readonly take: number;
  /** What others may do with them meanwhile. */
  readonly share: number;
}

export const PERMISSIONS: Kind = optionsOf<Permissions>({ take: needed(COUNT), share: needed(COUNT) });

/** Nothing is taken, and everything is shared. */
export const NOTHING: Permissions = { take: 0, share: ALL };
/** Reading what nobody may change. */
export const READING: Permissions = { take: CONSISTENT_READ, share: CONSISTENT_READ | WRITE_UNCHANGED };
/** Writing what nobody else may change. */
export const WRITING: Permissions = { take: CONSISTENT_READ | WRITE | RESIZE, share: CONSISTENT_READ | WRITE_UNCHANGED };
/** Writing guest bytes and nothing else, which others may do too. */
export const SHARED_WRITING: Permissions = { take: CONSISTENT_READ | WRITE | RESIZE, share: ALL & ~RESIZE };

/** What two users need who are one to all others. */
export const joined = (one: Permissions, other: Permissions): Permissions => ({ take: one.take | other.take, share: one.share & other.share });

/** What is needed of a file that guest bytes are in, and nothing else: it may have to grow, and nobody else may make it shorter. */
export const forData = ({ take, share }: Permissions): Permissions => ({ take: take & WRITE ? take | RESIZE : take, share: share & ~RESIZE });

/** What stands between a user and another: the first permission that the other does not share, else the first that it takes and should not. */
export function conflict(wanted: Permissions, held: Permissions): { readonly shared: boolean; readonly name: string } | undefined {
  const first = (bits: number) => PERMISSION_NAMES.findIndex((_, bit) => (bits >> bit) & 1);
  const kept = first(wanted.take & ~held.share);
  const taken = first(held.take & ~wanted.share);
  if (kept < 0 && taken < 0) return undefined;
  return { shared: kept < 0, name: PERMISSION_NAMES[kept < 0 ? taken : kept] as string };
}
