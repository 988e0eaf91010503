/** The engine's own verbs: the greeting, opening an image, closing everything. */
import { oneOf } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import type { OpenImageOptions, Place } from '../library/library.ts';
import { CACHE_MODES } from '../node/cache-mode.ts';
import { holdForLife } from './alive.ts';
import { CONNECT_OPTIONS, type ConnectOptions } from './connect-options.ts';
import { type DiskState, PROTOCOL_VERSION } from './protocol.ts';
import { ServedDisk } from './served.ts';
import { flag, type KindOf, optional, options, size, text, verb, word } from './verb.ts';

export const place: KindOf<Place> = word('opfs', 'indexeddb', 'memory');

const OPENING = options<OpenImageOptions>({
  readOnly: optional(flag),
  repair: optional(flag),
  secret: optional(text),
  detectZeroes: oneOf('on', 'unmap'),
  cache: oneOf(...CACHE_MODES),
  snapshot: place,
});

export const ENGINE_VERBS = {
  /** The answer names the lock that the engine holds while it lives (alive.ts), if it does. */
  hello: verb(
    { version: size, options: CONNECT_OPTIONS as KindOf<ConnectOptions> },
    async (served, { version, options = {} }) => {
      if (version !== PROTOCOL_VERSION)
        throw new DiskError(
          'unsupported',
          `The page speaks version ${version} of the engine's protocol, the worker ${PROTOCOL_VERSION}: load both from the same build`,
        );
      const { library: name, memoryIfBlocked } = options;
      const library = await served.openLibrary({
        ...(name === undefined ? {} : { name }),
        ...(memoryIfBlocked === undefined ? {} : { memoryIfBlocked }),
      });
      library.onChange(() => served.tell({ type: 'library-changed' }));
      library.onReleaseRequest((image) => served.tell({ type: 'release-request', image }));
      return holdForLife();
    },
    { where: 'connectEngine' },
  ),
  'engine.open': verb({ image: text, options: OPENING }, async (served, { image, options }): Promise<DiskState & { disk: number }> => {
    const library = await served.library();
    const opened = new ServedDisk(library, await library.openImage(image, options));
    return { disk: served.add(opened), ...opened.state };
  }),
  'engine.flush': verb({}, (served) => served.flushAll()),
  'engine.requestRelease': verb({ image: text }, async (served, { image }) => (await served.library()).requestRelease(image)),
  'engine.close': verb({}, (served) => served.close()),
};
