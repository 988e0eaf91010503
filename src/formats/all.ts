/** Every format that tabdisk knows: the default list of `openDisk`. An embedder with a list of its own leaves the others out. */
import type { OptionInputs } from '../base/declared-options.ts';
import { bochs } from './bochs/index.ts';
import { cloop } from './cloop/index.ts';
import type { FormatDescriptor } from './descriptor.ts';
import { dmg } from './dmg/index.ts';
import { luks } from './luks/index.ts';
import { parallels } from './parallels/index.ts';
import { qcow } from './qcow/index.ts';
import { qcow2 } from './qcow2/index.ts';
import { qed } from './qed/index.ts';
import { raw } from './raw/index.ts';
import { vdi } from './vdi/index.ts';
import { vhdx } from './vhdx/index.ts';
import { vmdk } from './vmdk/index.ts';
import { vpc } from './vpc/index.ts';

const known = [raw, qcow2, qcow, qed, vdi, vpc, vhdx, vmdk, parallels, bochs, cloop, dmg, luks] as const;

/** The formats that `openDisk` and `createDisk` know unless they are given others. */
export const allFormats: readonly FormatDescriptor[] = known;

/** The type of each descriptor, with its own name and options. */
export type KnownFormat = (typeof known)[number];
/** Names of formats. */
export type FormatName = KnownFormat['name'];
/** Names of formats whose images can be opened. */
export type OpenedFormat = Extract<KnownFormat, { readonly open: unknown }>['name'];
/** Names of formats that images can be made in. */
export type CreatedFormat = Extract<KnownFormat, { readonly create: unknown }>['name'];
/** The options of `create` that a format has, as its list declares them. */
export type FormatOptions<Name extends FormatName> = OptionInputs<Extract<KnownFormat, { readonly name: Name }>['createOptions']>;
