/**
 * What an open image takes of the files below it, after QEMU's block layer. A format that keeps tables in its file needs it whole, whatever its user
 * does; a raw disk, encrypted or not, leaves it to its user, and so may be shared by writers who know of each other.
 */
import type { Io } from '../base/io.ts';
import { ALL, CONSISTENT_READ, forData, joined, NOTHING, type Permissions, READING, WRITE, WRITING } from '../base/permissions.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import type { ImageDriver } from '../formats/driver.ts';

/** What an image takes of its file by itself, from before its header is read. `noData`: only to tell facts. */
export function ofItself(
  { sharesFile }: FormatDescriptor,
  { readOnly, noData = false }: { readOnly: boolean; noData?: boolean | undefined },
): Permissions {
  if (sharesFile) return NOTHING;
  if (!readOnly) return WRITING;
  return noData ? { take: 0, share: READING.share } : READING;
}

/** What a user takes that says nothing else: to read, or to write, beside others who do so. */
export const ofUser = ({ readOnly, noData = false }: { readOnly: boolean; noData?: boolean | undefined }): Permissions => ({
  take: (noData ? 0 : CONSISTENT_READ) | (readOnly ? 0 : WRITE),
  share: ALL,
});

/** An open image, as far as it takes and shares files. */
export interface PermittedNode {
  readonly driver: ImageDriver;
  readonly backing?: PermittedNode | undefined;
  readonly readOnly: boolean;
  permit(user: Permissions): Io<void>;
}

/** `Storage.permit` of an image: its file, its data files, and the images below it, each as far as it has to do with what the user does. */
export function* permitNode({ driver, backing }: Pick<PermittedNode, 'driver' | 'backing'>, user: Permissions, ofImage = NOTHING): Io<void> {
  if (driver.storage.permit) yield* driver.storage.permit(joined(user, ofImage));
  for (const file of driver.files ?? []) if (file.permit) yield* file.permit(forData(user));
  if (backing) yield* permitBacking(backing, user);
}

/** An image is read below another one, or written by a job; others may write it if they may write the one above, too. */
export function permitBacking(backing: PermittedNode, { share }: Permissions): Io<void> {
  return backing.permit({ ...ofUser(backing), share: share & WRITE ? ALL : READING.share });
}
