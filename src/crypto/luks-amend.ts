/**
 * Changing key slots of a LUKS image as QEMU's `amend` does: a further passphrase into a free slot, or slots erased by number or by the
 * passphrase that opens them. Changes that would make the image unreadable are refused unless they are forced. Words are QEMU's.
 *
 * Crash argument. Other slots are not touched, so a cut leaves every passphrase that is neither added nor erased. A slot that is in use and is
 * written over by force is erased first, as in QEMU: if it is the only one, a cut in between loses the image.
 */
import type { OptionValues } from '../base/declared-options.ts';
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import type { Luks } from './luks.ts';
import { SLOTS } from './luks-layout.ts';
import { iterTime } from './luks-options.ts';
import type { LUKS_AMEND_OPTIONS } from './option-lists.ts';
import { type AskSecret, passphraseFor } from './passphrase.ts';

export interface LuksChange {
  readonly format: string;
  /** `encrypt.` for qcow2. */
  readonly prefix: string;
  /** Without the prefix. */
  readonly options: OptionValues<typeof LUKS_AMEND_OPTIONS>;
  readonly secret: AskSecret | undefined;
  readonly force: boolean;
}

/** Changes key slots; durable when it returns. The image was opened with its passphrase. Throws `refused`, naming the option. */
export function* amendLuks(luks: Luks, change: LuksChange): Io<void> {
  const { state } = change.options;
  if (state === undefined) throw refusal(change)('state', "Parameter 'state' is missing");
  yield* state === 'active' ? activate(luks, change) : erase(luks, change);
}

const refusal =
  ({ format, prefix }: LuksChange) =>
  (name: string, message: string) =>
    new DiskError('refused', `${format}: ${message}`, { format, field: prefix + name });

function* activate(luks: Luks, change: LuksChange): Io<void> {
  const { options, force } = change;
  const refuse = refusal(change);
  if (options['new-secret'] === undefined) throw refuse('new-secret', "'new-secret' is required to activate a keyslot");
  if (options['old-secret'] !== undefined) throw refuse('old-secret', "'old-secret' must not be given when activating keyslots");
  const active = luks.activeSlots();
  const given = options.keyslot;
  if (given !== undefined && active.includes(given) && !force)
    throw refuse('keyslot', `Refusing to overwrite active keyslot ${given} - please erase it first`);
  const slot = given ?? Array.from({ length: SLOTS }, (_, index) => index).find((index) => !active.includes(index));
  if (slot === undefined) throw refuse('keyslot', "Can't add a keyslot - all keyslots are in use");
  yield* luks.fill(slot, yield* secretOf(luks, change, 'new-secret'), iterTime(options['iter-time']));
}

function* erase(luks: Luks, change: LuksChange): Io<void> {
  const { options, force } = change;
  const refuse = refusal(change);
  for (const name of ['new-secret', 'iter-time'] as const)
    if (options[name] !== undefined) throw refuse(name, `'${name}' must not be given when erasing keyslots`);
  const old = options['old-secret'] === undefined ? undefined : yield* secretOf(luks, change, 'old-secret');
  const active = luks.activeSlots();
  const given = options.keyslot;
  if (given !== undefined) {
    if (old && !(yield* luks.opens(given, old)))
      throw refuse('old-secret', `Given keyslot ${given} doesn't contain the given old password for erase operation`);
    if (!force && !active.includes(given)) throw refuse('keyslot', `Given keyslot ${given} is already erased (inactive) `);
    if (!force && active.length === 1)
      throw refuse(
        'keyslot',
        `Attempt to erase the only active keyslot ${given} which will erase all the data in the image irreversibly - refusing operation`,
      );
    return yield* luks.erase(given);
  }
  if (!old) throw refuse('keyslot', 'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given');
  const matching: number[] = [];
  for (const slot of active) if (yield* luks.opens(slot, old)) matching.push(slot);
  if (matching.length === 0) throw refuse('old-secret', 'No keyslots match given (old) password for erase operation');
  if (!force && matching.length === active.length)
    throw refuse(
      'old-secret',
      'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation',
    );
  for (const slot of matching) yield* luks.erase(slot);
}

const secretOf = (luks: Luks, { options, prefix, secret, format }: LuksChange, name: 'new-secret' | 'old-secret'): Io<Uint8Array> =>
  passphraseFor(secret, { image: luks.area.storage.name, format, encryption: 'luks', id: String(options[name]) }, prefix + name);
