/**
 * VDI images over another one. Such an image has no name of its parent: it knows the UUID of that image (`link`), and the one that changes whenever that image is
 * written (`parent`). An image whose `parent` is no UUID at all is over any state of its parent: so it is while a commit writes there.
 */
import { DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { BelowReference, ImageDriver } from '../driver.ts';
import type { ImageTools } from '../tools.ts';
import { FORMAT, type Header, type HeaderChange, NO_UUID, TYPE } from './layout.ts';

const refused = (field: string, message: string): DiskError => new DiskError('refused', message, { format: FORMAT, field });

/** The image below, as an image knows it. */
export function parentOf({ type, uuids }: Pick<Header, 'type' | 'uuids'>): BelowReference | undefined {
  return type === TYPE.differencing ? { kind: 'parent', name: '', format: FORMAT, identity: uuids.link } : undefined;
}

/** Throws `refused` if an image is not the one below, or has been changed since the image `name` was made over it. */
export function requireParent({ uuids }: Pick<Header, 'uuids'>, below: ImageDriver, name: string): void {
  const { identity, storage } = below;
  if (below.format !== FORMAT || identity?.id !== uuids.link)
    throw refused('link', `${name}: ${storage.name} is not its parent, which is the VDI image with the UUID ${uuids.link}`);
  if (uuids.parent !== NO_UUID && identity.modification !== uuids.parent)
    throw refused(
      'parent',
      `${name}: its parent ${storage.name} was changed since (its UUID of changes is ${identity.modification}, not ${uuids.parent})`,
    );
}

/** The fields of the header that say what an image lies over. Throws `refused` for what a VDI cannot lie over. */
export function linkTo(name: string, below: { readonly format: string; readonly driver: ImageDriver } | undefined): HeaderChange {
  if (!below)
    throw refused(
      'backing_file',
      `a VDI notes the UUIDs of its parent and not its name, and ${JSON.stringify(name)} does not open to tell them. Name an image that is there. A parent that was only moved or renamed needs no rebase: it is found by its UUID`,
    );
  const { identity } = below.driver;
  if (below.format !== FORMAT || identity?.modification === undefined)
    throw refused('backing_file', `the parent of a VDI must be a VDI: ${JSON.stringify(name)} is not`);
  return { type: TYPE.differencing, link: identity.id, parent: identity.modification };
}

/** The tools for what an image lies over. `change` changes the header, durably. */
export function differencingTools(change: (fields: HeaderChange) => Io<void>): Pick<ImageTools, 'setBacking' | 'awaitBelow'> {
  return {
    setBacking: (backing, below) =>
      change(
        backing ? linkTo(backing.name, below && { format: below.format, driver: below }) : { type: TYPE.dynamic, link: NO_UUID, parent: NO_UUID },
      ),
    awaitBelow: () => change({ parent: NO_UUID }),
  };
}
