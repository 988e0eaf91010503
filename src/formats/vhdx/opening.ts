/** Opening a VHDX image. */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Storage } from '../../storage/storage.ts';
import type { OpenParameters } from '../descriptor.ts';
import { Bat } from './bat.ts';
import { usedBlocks } from './check.ts';
import { HeaderPair } from './header-pair.ts';
import { VhdxImage } from './image.ts';
import { FORMAT } from './layout.ts';
import { readLog } from './log.ts';
import { readFacts, readHead, replayInto } from './open.ts';
import { ReplayedStorage } from './replayed.ts';
import { roomOf } from './room.ts';

/** Opens an image. One whose BAT is damaged can only be read. */
export function* openImage(file: Storage, { readOnly, repair, onDamage }: OpenParameters): Io<VhdxImage> {
  const head = yield* readHead(file);
  const headers = new HeaderPair(file, head);
  let storage = file;
  const replayed = headers.hasLog;
  if (headers.hasLog && readOnly) storage = new ReplayedStorage(file, yield* readLog(file, head.header));
  else if (headers.hasLog) {
    yield* replayInto(file, headers);
    onDamage?.('the image was not closed properly: its log was replayed');
  }
  const facts = yield* readFacts(storage, headers.header);
  const { metadata, chunkRatio, blocks, reserved } = facts;
  const { size, blockSize, logicalSector, hasParent } = metadata;
  const bat = new Bat(storage, { offset: facts.bat.start, size, blocks, chunkRatio, blockSize, logicalSector, hasParent, reserved });
  const opened = { facts, headers, bat, replayed: replayed && !readOnly };
  if (readOnly || repair) return new VhdxImage(storage, opened);
  const used = yield* usedBlocks(bat, storage.size, (message) => {
    throw corrupt(FORMAT, `${message} Open the image read-only`, { field: 'BAT' });
  });
  return new VhdxImage(storage, { ...opened, space: roomOf(storage, { unit: blockSize, used, reserved }) });
}
