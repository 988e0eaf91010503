/** What formats say of themselves, held against what they do: for every format in the list, whichever they are. */
import { describe, expect, it } from 'vitest';
import { camelCase, type DeclaredOption, describeOption, type GivenValue, readOptions } from '../../src/base/declared-options.ts';
import { DiskError } from '../../src/base/errors.ts';
import { createDisk, openDisk } from '../../src/disk/open.ts';
import { allFormats } from '../../src/formats/all.ts';
import type { FormatDescriptor } from '../../src/formats/descriptor.ts';
import { findFormat } from '../../src/formats/registry.ts';
import { OVERLAY_FORMAT, PLAIN_FORMAT } from '../../src/formats/roles.ts';
import { formatFacts } from '../../src/library/image-formats.ts';
import { memoryStorage } from '../../src/storage/memory.ts';

/** A size that a geometry has: an image of vpc has it exactly. */
const SIZE = 31 * 4 * 17 * 512;
const created = allFormats.filter(({ create }) => create);

/** Makes an image with options; one of a format that cannot be without a key has one, derived in no time. */
async function make({ name, encryption }: FormatDescriptor, options: Record<string, GivenValue>, encrypted = encryption?.always): Promise<void> {
  const quick = encryption?.iterTime ? { [encryption.iterTime]: 1 } : {};
  const key = encryption && encrypted ? { secret: 'key', ...quick, ...encryption.options } : {};
  const storage = memoryStorage();
  await (await createDisk<string>(storage, { format: name, size: SIZE, ...key, ...options })).close();
  const bytes = storage.bytes();
  const disk = await openDisk(memoryStorage({ bytes }), { format: name, readOnly: true, ...(encrypted ? { secret: 'key' } : {}) });
  expect(disk.size).toBe(SIZE);
  await disk.close();
}

/** Values just outside of what an option takes, in its own kind and in text. */
function wrongValues(option: DeclaredOption): GivenValue[] {
  const { kind } = option;
  if (kind === 'flag') return ['perhaps', 1];
  if (kind === 'choice') return ['nonsense', true, 7];
  if (kind !== 'size' && kind !== 'count') return [];
  const { least = 0, most, powerOfTwo } = option;
  const outside = [least - 1, ...(most === undefined ? [] : [most + 1, most * 2]), ...(powerOfTwo && most !== undefined ? [most - 1] : [])];
  return [...outside, 'x', true, 0.5];
}

const bounded = created.filter(({ plain, encryption }) => !plain && !encryption?.always).map(({ name }) => name);

it.each(bounded)('%s refuses a size that it cannot have, before anything is written', async (format) => {
  const storage = memoryStorage();
  await expect(createDisk<string>(storage, { format, size: 2 ** 53 - 512 })).rejects.toMatchObject({
    kind: 'refused',
    field: format === 'parallels' ? 'cluster_size' : 'size',
  });
  expect(storage.size).toBe(0);
});

describe.each(allFormats.map((format) => [format.name, format] as const))('%s', (name, format) => {
  const { capabilities, createOptions, amendOptions = [], encryption } = format;

  it('can what its functions do', () => {
    expect(capabilities.create).toBe(format.create !== undefined);
    expect(capabilities.read).toBe(true);
    if (format.measure) expect(capabilities.create, 'what it would take').toBe(true);
    if (capabilities.create) expect([format.gist, format.product], 'what speaks for it, and whose it is').not.toContain(undefined);
    // A compressed export is offered for it then, so it must be possible.
    if (format.compressed) expect(capabilities.compressedWrite).toBe(true);
    if (capabilities.write || capabilities.create) expect(capabilities.read).toBe(true);
    expect(createOptions.some(({ said }) => said === 'backing')).toBe(capabilities.backing);
    expect(createOptions.some(({ said }) => said === 'size')).toBe(capabilities.create);
  });

  it('has each option once, each in words, with a default in range', () => {
    for (const list of [createOptions, amendOptions]) {
      const names = list.flatMap((option) => [...new Set([option.name, camelCase(option.name)])]);
      expect(new Set(names).size).toBe(names.length);
      for (const option of list) {
        expect(option.help).toBeTruthy();
        const { range, values } = describeOption(option);
        if (option.kind !== 'text' && option.kind !== 'secret') expect(range).toBeTruthy();
        for (const value of values ?? [])
          expect(() => readOptions([{ ...option, said: undefined as never }], { [option.name]: value }, name)).not.toThrow();
      }
      const defaults = Object.fromEntries(list.flatMap((option) => (option.default === undefined ? [] : [[option.name, option.default]])));
      expect(readOptions(list, {}, name)).toEqual(defaults);
    }
  });

  it('names options of its own where it says how images are encrypted', () => {
    const names = createOptions.map((option) => option.name);
    if (!encryption) return expect(createOptions.some(({ kind }) => kind === 'secret')).toBe(false);
    const { key, method, iterTime, turnedOnBy, options } = encryption;
    const named = [key, ...turnedOnBy, ...Object.keys(options), ...[method, iterTime].filter((one) => one !== undefined)];
    expect(names).toEqual(expect.arrayContaining(named));
    expect(encryption.always).toBe(turnedOnBy.length === 0);
  });
});

it('other threads are told all of it', () => {
  const facts = formatFacts();
  expect(structuredClone(facts)).toEqual(facts);
  expect(facts.map(({ name }) => name)).toEqual(allFormats.map(({ name }) => name));
});

it('the formats that have a part to play can play it', () => {
  const overlay = findFormat(allFormats, OVERLAY_FORMAT);
  expect(overlay.capabilities).toMatchObject({ create: true, write: true, backing: true });
  const plain = findFormat(allFormats, PLAIN_FORMAT);
  expect(plain).toMatchObject({ plain: true, capabilities: { create: true, write: true } });
  expect(plain.encryption).toBeUndefined();
  expect(allFormats.filter((format) => format.plain)).toEqual([plain]);
});

describe.each(created.map((format) => [format.name, format] as const))('an image of %s', (_, format) => {
  const options = format.createOptions.filter(({ said }) => !said);
  const { encryption } = format;
  const own = (name: string): boolean => name === encryption?.key || (encryption?.turnedOnBy.includes(name) ?? false);
  const encrypting = (name: string): boolean => !own(name) && encryption !== undefined && /^(encrypt\.|cipher|ivgen|hash-alg|iter-time)/.test(name);

  it('is made with every default said aloud, under QEMU’s name and in camel case, as a value and as text', async () => {
    for (const option of options) {
      const { name } = option;
      if (option.default === undefined || own(name)) continue;
      // A key is derived for long by default.
      const value = name === encryption?.iterTime ? 1 : option.default;
      const text = typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
      for (const given of [value, text])
        for (const key of [name, camelCase(name)]) await make(format, { [key]: given }, encryption?.always || encrypting(name));
    }
  });

  it('is not made with a value out of range, nor with an option that there is not: both are refused by name', async () => {
    for (const option of options) {
      for (const value of wrongValues(option)) {
        const made = make(format, { [option.name]: value }, encryption?.always || encrypting(option.name));
        await expect(made, `${option.name}=${value}`).rejects.toMatchObject({ kind: 'refused', field: option.name });
      }
    }
    await expect(make(format, { nonsense: 1 })).rejects.toMatchObject({ kind: 'refused', field: 'nonsense' });
    for (const { name, said } of format.createOptions)
      if (said === 'backing') await expect(make(format, { [name]: 'x' })).rejects.toMatchObject({ kind: 'refused', field: name });
  });

  it('tells a misspelt option from the one that was meant', async () => {
    for (const { name } of options) {
      const failure = await make(format, { [name.slice(0, -1)]: 1 }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(DiskError);
      expect((failure as DiskError).message).toMatch(/did you mean |there is no option|it takes/);
    }
  });
});
