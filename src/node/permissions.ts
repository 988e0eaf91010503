/**
 * The permissions that an open image takes of the files below it, after QEMU's block layer. A format with tables in its file needs the whole file, whatever its
 * user does; a raw disk, encrypted or not, leaves the file to its user, and so may be shared by writers that know of each other.
 */
import type { Io } from '../base/io.ts';
import { ALL, CONSISTENT_READ, forData, joined, NOTHING, type Permissions, READING, WRITE, WRITING } from '../base/permissions.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { ImageDriver } from '../formats/driver.ts';

/** The permissions that an image takes of its file by itself, from before its header is read. `noData`: the image is opened only for its facts. */
export function ofItself(
  { sharesFile }: FormatDescriptor,
  { readOnly, noData = false }: { readOnly: boolean; noData?: boolean | undefined },
): Permissions {
  if (sharesFile) return NOTHING;
  if (!readOnly) return WRITING;
  return noData ? { take: 0, share: READING.share } : READING;
}

/** The permissions of a user that names none: to read, or to write, beside others that do so. */
export const ofUser = ({ readOnly, noData = false }: { readOnly: boolean; noData?: boolean | undefined }): Permissions => ({
  take: (noData ? 0 : CONSISTENT_READ) | (readOnly ? 0 : WRITE),
  share: ALL,
});

/** The part of an open image that permissions need. */
export interface PermittedNode {
  readonly driver: ImageDriver;
  readonly backing?: PermittedNode | undefined;
  readonly readOnly: boolean;
  permit(user: Permissions): Io<void>;
}

/** `Storage.permit` of an image: passes the user's permissions on to its file, its data files, and the images below it, each as far as they concern it. */
export function* permitNode({ driver, backing }: Pick<PermittedNode, 'driver' | 'backing'>, user: Permissions, ofImage = NOTHING): Io<void> {
  if (driver.storage.permit) yield* driver.storage.permit(joined(user, ofImage));
  for (const file of driver.files ?? []) if (file.permit) yield* file.permit(forData(user));
  if (backing) yield* permitBacking(backing, user);
}

/** An image is read below another one, or written by a job; others may write it if they may write the one above, too. */
export function permitBacking(backing: PermittedNode, { share }: Permissions): Io<void> {
  return backing.permit({ ...ofUser(backing), share: share & WRITE ? ALL : READING.share });
}
