/** LUKS version 1, Linux's encrypted disk, as QEMU's format `luks` has it. Version 2 is recognised and refused. */
import { roundUp } from '../../base/bytes.ts';
import { readOptions } from '../../base/declared-options.ts';
import { cutShortText, DiskError } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import { SECTOR } from '../../base/units.ts';
import { Luks } from '../../crypto/luks.ts';
import { luksLength, luksOptions } from '../../crypto/luks-options.ts';
import { LUKS_AMEND_OPTIONS, LUKS_OPTIONS } from '../../crypto/option-lists.ts';
import { passphraseFor } from '../../crypto/passphrase.ts';
import type { Storage } from '../../storage/storage.ts';
import type { CreateParameters, FormatDescriptor, Inspection } from '../descriptor.ts';
import { hasU32be, NO_CAPABILITIES } from '../recognised.ts';
import { SIZE_OPTION } from '../shared-options.ts';
import { FORMAT, KEY_OPTION, openImage } from './image.ts';

const createOptions = [SIZE_OPTION, ...LUKS_OPTIONS] as const;

/** See `FormatDescriptor.inspect`. The header does not state the disk's size: only a file that ends before the payload, or inside a sector, was surely cut. */
function* inspectImage(storage: Storage): Io<Inspection> {
  try {
    const luks = yield* Luks.load({ storage, offset: 0, length: Number.MAX_SAFE_INTEGER }, FORMAT);
    const { 'cipher-alg': cipher, 'cipher-mode': mode } = luks.info();
    const needed = Math.max(luks.payloadOffset, roundUp(storage.size, SECTOR));
    const cut = needed > storage.size ? { neededSize: needed, warnings: [cutShortText(needed, storage.size)] } : { warnings: [] };
    return { size: needed - luks.payloadOffset, references: [], features: ['version 1', `encrypted (${cipher}, ${mode})`], ...cut };
  } catch (error) {
    if (!(error instanceof DiskError) || error.kind === 'io') throw error;
    return { references: [], features: [], warnings: [error.message] };
  }
}

/** The write of the header comes last and makes the file an image; the disk's sectors follow as a hole, and read as anything. */
function* createImage(storage: Storage, { size, backing, options, secret }: CreateParameters): Io<void> {
  const values = readOptions(createOptions, options, FORMAT);
  if (backing) throw new DiskError('refused', `${FORMAT}: a luks image cannot have a backing file`, { format: FORMAT, field: 'backing_file' });
  if (size % 512 !== 0) throw new DiskError('refused', `${FORMAT}: the size must be a multiple of 512 bytes`, { format: FORMAT, field: 'size' });
  const chosen = luksOptions(values, FORMAT);
  const id = values['key-secret'];
  const request = { image: storage.name, format: FORMAT, encryption: 'luks', ...(id === undefined ? {} : { id }) } as const;
  const passphrase = yield* passphraseFor(secret, request, KEY_OPTION);
  const length = luksLength(chosen);
  yield* storage.truncate(length + size);
  yield* Luks.create({ storage, offset: 0 }, chosen, passphrase, FORMAT);
  yield* storage.flush();
}

/** The LUKS format. */
export const luks = {
  name: FORMAT,
  aliases: [],
  title: 'Linux encrypted disk (LUKS)',
  extensions: ['luks'],
  probe: (head) => (hasU32be(head, 0, 0x4c554b53) && head[4] === 0xba && head[5] === 0xbe ? 100 : 0),
  sharesFile: true,
  capabilities: { ...NO_CAPABILITIES, read: true, write: true, create: true, resize: true },
  gist: 'all of it encrypted',
  product: 'Linux',
  encryption: { always: true, key: KEY_OPTION, turnedOnBy: [], options: {}, iterTime: 'iter-time' },
  strongOptions: /^key-secret$/,
  createOptions,
  amendOptions: LUKS_AMEND_OPTIONS,
  limits: ['LUKS version 2', 'ciphers other than AES', 'detached headers'],
  inspect: inspectImage,
  open: openImage,
  *measure({ size, options }) {
    return { size, metadata: luksLength(luksOptions(readOptions(createOptions, options, FORMAT), FORMAT)), unit: 512, everything: true };
  },
  create: createImage,
} as const satisfies FormatDescriptor;
