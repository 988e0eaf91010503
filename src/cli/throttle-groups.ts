/** `--object throttle-group,…`: limits as `limits.bps-total=…`, or under their older names, `x-bps-total=…`. */
import { DiskError, ThrottleGroup, type ThrottleLimits } from '../index.ts';
import { type OptionSet, THROTTLE_LIMITS } from '../qemu.ts';
import { Failure } from './terminal.ts';

type LimitName = keyof ThrottleLimits;

const LONGEST_BURST = 2 ** 32 - 1;

/** Reads a group's properties, which have types if they were JSON; the returned function makes the group. Both throw a `Failure` in QEMU's words. */
export function throttleGroupOf(properties: OptionSet, typed: boolean): () => ThrottleGroup {
  if (properties.has('limits')) throw new Failure("Invalid parameter type for 'limits', expected: object");
  if (properties.has('limits.')) throw new Failure("Invalid parameter 'limits.'");
  const [limits, older] = ['limits.', 'x-'].map((prefix) =>
    THROTTLE_LIMITS.flatMap((name): [LimitName, number][] => {
      const value = takeInteger(properties, prefix + name, typed);
      return value === undefined ? [] : [[name, value]];
    }),
  ) as [[LimitName, number][], [LimitName, number][]];
  const [unknown] = properties.rest();
  if (unknown !== undefined) throw new Failure(`Parameter '${unknown}' is unexpected`);
  return () => {
    const group = make(Object.fromEntries(limits.map(([name, value]) => [name, burstLength(name, value)])));
    for (const [, value] of older) if (value < 0) throw new Failure('Property values cannot be negative');
    for (const [name, value] of older)
      if (isLength(name) && value > LONGEST_BURST) throw new Failure(`x-${name} value must be in therange [0, ${LONGEST_BURST}]`);
    return older.length === 0 ? group : make({ ...group.limits, ...Object.fromEntries(older) });
  };
}

const isLength = (name: LimitName): boolean => name.endsWith('-max-length');

function burstLength(name: LimitName, value: number): number {
  if (!isLength(name)) return value;
  if (value > LONGEST_BURST) throw new Failure(`${name} value must be in the range [0, ${LONGEST_BURST}]`);
  return value < 0 ? value + 2 ** 64 : value;
}

function make(limits: ThrottleLimits): ThrottleGroup {
  try {
    return new ThrottleGroup(limits);
  } catch (error) {
    throw error instanceof DiskError ? new Failure(error.message) : error;
  }
}

/** A number as JSON has it (`typed`), or as text: decimal, 0x or with a leading 0 octal. */
function takeInteger(properties: OptionSet, name: string, typed: boolean): number | undefined {
  if (!properties.has(name)) return undefined;
  const value = properties.take(name);
  if (typeof value === 'number' && Number.isInteger(value)) return value;
  if (typed || typeof value !== 'string') throw new Failure(`Invalid parameter type for '${name}', expected: integer`);
  const [, sign = '', digits = ''] = /^\s*([-+]?)(0x[0-9a-f]+|\d+)$/i.exec(value) ?? [];
  const number = /^0\d/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  if (digits === '' || number >= 2 ** 63) throw new Failure(`Parameter '${name}' expects integer`);
  return sign === '-' ? -number : number;
}
