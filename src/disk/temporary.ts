/**
 * Opening with `snapshot`, after QEMU's snapshot=on: the image is opened read-only and does not change by a byte; writes go to an
 * overlay over it, which the guest sees until the disk is closed. Nothing is flushed, and nothing is saved at the end: the overlay is not kept.
 */
import { roundUp } from '../base/bytes.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';
import { SECTOR } from '../base/units.ts';
import type { FormatDescriptor } from '../formats/descriptor.ts';
import { findFormat } from '../formats/registry.ts';
import { OVERLAY_FORMAT } from '../formats/roles.ts';
import type { BlockNode, NodeOptions } from '../node/node.ts';
import { memoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';
import { fixed, openChain } from './chain.ts';

/** The place of the overlay of a disk opened with `snapshot`: memory, or an empty storage. */
export type TemporaryPlace = true | Storage | PromiseLike<Storage>;

/** Bytes of a name that fit into an image's header. */
const NAME_LIMIT = 1000;

/** An overlay over the image that `open` opens, in whole sectors; it owns the image. If this fails both are closed. */
export function* withTemporary(
  open: () => Io<BlockNode>,
  place: TemporaryPlace,
  options: { readonly formats: readonly FormatDescriptor[] } & Pick<NodeOptions, 'keepSpace' | 'detectZeroes'>,
): Io<BlockNode> {
  let below: BlockNode | undefined;
  const given = place === true ? memoryStorage({ name: 'temporary changes' }) : place;
  const storage = 'then' in given ? yield* wait(given) : given;
  try {
    below = yield* open();
    return yield* openTemporary(below, storage, options);
  } catch (error) {
    yield* storage.close();
    if (below) yield* below.close();
    throw error;
  }
}

function* openTemporary(
  below: BlockNode,
  storage: Storage,
  { formats, keepSpace, detectZeroes }: Parameters<typeof withTemporary>[2],
): Io<BlockNode> {
  const { create } = findFormat(formats, OVERLAY_FORMAT);
  if (!create)
    throw new DiskError('unsupported', `The temporary overlay of a snapshot needs ${OVERLAY_FORMAT}, which is not among the formats`, {
      field: 'snapshot',
    });
  if (storage.size !== 0)
    throw new DiskError('refused', `${storage.name} is not empty: the temporary overlay would destroy it`, { field: 'snapshot' });
  // The name is for people: the overlay is opened over the present node.
  const name = below.fileName ?? below.name;
  const backing = { name: name.length > 0 && name.length < NAME_LIMIT ? name : 'the image', format: below.driver.format };
  yield* create(storage, { size: roundUp(below.size, SECTOR), backing, options: {} });
  return yield* openChain(storage, {
    format: OVERLAY_FORMAT,
    formats,
    cache: 'unsafe',
    openBacking: fixed(below),
    ...(detectZeroes ? { detectZeroes } : {}),
    node: { keepSpace: keepSpace ?? false, forgotten: true },
  });
}
