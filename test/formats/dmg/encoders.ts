/** Small encoders for the codes of macOS that no tool here writes. They are made from the format's description, apart from the decoders. */

/** A literal run, then a copy of `length` bytes from `distance` before. */
interface Step {
  readonly literals: Uint8Array;
  readonly length: number;
  readonly distance: number;
}

/** Greedy matches by the last place of three bytes. */
function stepsOf(bytes: Uint8Array, most: { readonly literals: number; readonly length: number; readonly distance: number }): Step[] {
  const places = new Map<number, number>();
  const steps: Step[] = [];
  let start = 0;
  const end = (at: number, length: number, distance: number) => {
    steps.push({ literals: bytes.subarray(start, at), length, distance });
    start = at + length;
  };
  for (let at = 0; at < bytes.length; ) {
    const key = ((bytes[at] as number) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const before = places.get(key);
    places.set(key, at);
    let length = 0;
    if (before !== undefined && at - before <= most.distance && at + 4 < bytes.length)
      while (length < most.length && at + length < bytes.length && bytes[before + length] === bytes[at + length]) length++;
    if (length >= 4 && before !== undefined) {
      end(at, length, at - before);
      at += length;
    } else if (++at - start === most.literals) end(at, 0, 0);
  }
  if (start < bytes.length) end(bytes.length, 0, 0);
  return steps;
}

/** Apple Data Compression, with short and long copies. */
export function encodeAdc(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (const { literals, length, distance } of stepsOf(bytes, { literals: 128, length: 67, distance: 65536 })) {
    if (literals.length > 0) out.push(0x80 | (literals.length - 1), ...literals);
    if (length === 0) continue;
    const far = distance - 1;
    if (length <= 18 && far < 1024) out.push(((length - 3) << 2) | (far >> 8), far & 0xff);
    else out.push(0x40 | (length - 4), far >> 8, far & 0xff);
  }
  return Uint8Array.from(out);
}

const u32 = (...values: number[]): number[] => values.flatMap((value) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]);
const letters = (word: string): number[] => [...word].map((letter) => letter.charCodeAt(0));

/** An LZFSE stream of one LZVN block, with every kind of operation, and one stored block for the last bytes. */
export function encodeLzvn(bytes: Uint8Array): Uint8Array {
  const cut = Math.max(0, bytes.length - 100);
  const out: number[] = [0x0e];
  let last = 0;
  for (const { literals, length, distance } of stepsOf(bytes.subarray(0, cut), { literals: 271, length: 271, distance: 65535 })) {
    let rest = literals;
    if (length < 3 || rest.length > 3) {
      const alone = length < 3 ? rest : rest.subarray(0, rest.length - 2);
      if (alone.length >= 16) out.push(0xe0, alone.length - 16, ...alone);
      else if (alone.length > 0) out.push(0xe0 | alone.length, ...alone);
      rest = rest.subarray(alone.length);
    }
    if (length === 0) continue;
    const count = rest.length;
    const first = Math.min(length, [10, 8, 6, 4][count] as number);
    let done = first;
    if (distance === last && count > 0) out.push((count << 6) | ((first - 3) << 3) | 6, ...rest);
    else if (distance === last) done = 0;
    else if (distance < 1536) out.push((count << 6) | ((first - 3) << 3) | (distance >> 8), distance & 0xff, ...rest);
    else if (distance < 16384) {
      done = Math.min(length, 34);
      out.push(0xa0 | (count << 3) | ((done - 3) >> 2), ((distance << 2) & 0xff) | ((done - 3) & 3), distance >> 6, ...rest);
    } else out.push((count << 6) | ((first - 3) << 3) | 7, distance & 0xff, distance >> 8, ...rest);
    last = distance;
    const left = length - done;
    if (left >= 16) out.push(0xf0, left - 16);
    else if (left > 0) out.push(0xf0 | left);
  }
  out.push(6, 0, 0, 0, 0, 0, 0, 0);
  const stored = bytes.subarray(cut);
  return Uint8Array.from([
    ...letters('bvxn'),
    ...u32(cut, out.length),
    ...out,
    ...letters('bvx-'),
    ...u32(stored.length),
    ...stored,
    ...letters('bvx$'),
  ]);
}

/** The numbers of a step, by their table: states, extra bits of each symbol. */
const TABLES = [
  { states: 64, extra: [...new Array<number>(16).fill(0), 2, 3, 5, 8] },
  { states: 64, extra: [...new Array<number>(16).fill(0), 3, 5, 8, 11] },
  { states: 256, extra: Array.from({ length: 64 }, (_, symbol) => symbol >> 2) },
  { states: 1024, extra: new Array<number>(256).fill(0) },
].map(({ states, extra }) => ({ states, extra, base: extra.map((_, symbol) => extra.slice(0, symbol).reduce((sum, bits) => sum + 2 ** bits, 0)) }));
type Numbers = (typeof TABLES)[number];

/** An LZFSE stream of blocks with finite state entropy. */
export function encodeLzfse(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  // Matches reach into the blocks before, which one list of steps for all of them makes possible.
  const steps = stepsOf(bytes, { literals: 315, length: 2359, distance: 200_000 });
  for (let at = 0; at < steps.length; at += 120) out.push(...block(steps.slice(at, at + 120)));
  return Uint8Array.from([...out, ...letters('bvx$')]);
}

function block(steps: readonly Step[]): number[] {
  const literals = steps.flatMap(({ literals }) => [...literals]);
  while (literals.length % 4 !== 0) literals.push(0);
  let last = 0;
  const lists = [
    steps.map((step) => step.literals.length),
    steps.map((step) => step.length),
    steps.map(({ length, distance }) => {
      const again = distance === last || length === 0;
      if (!again) last = distance;
      return again ? 0 : distance;
    }),
    literals,
  ];
  const frequencies = lists.map((list, i) => frequenciesOf(list, TABLES[i] as Numbers));
  const coders = frequencies.map((list, i) => new Coder(list, TABLES[i] as Numbers));
  const literalBits: number[] = [];
  const literalStates = [0, 0, 0, 0];
  // What is written last is read first.
  for (let i = literals.length - 1; i >= 0; i--)
    literalStates[i % 4] = (coders[3] as Coder).encode(literals[i] as number, literalStates[i % 4] as number, literalBits);
  const matchBits: number[] = [];
  const states = [0, 0, 0];
  for (let i = steps.length - 1; i >= 0; i--)
    for (const kind of [2, 1, 0])
      states[kind] = (coders[kind] as Coder).encode((lists[kind] as number[])[i] as number, states[kind] as number, matchBits);
  const [literalBytes, matchBytes] = [packed(literalBits), packed(matchBits)];
  const tables = packed(frequencies.flat().flatMap(frequencyBits));
  const raw = steps.reduce((sum, { literals, length }) => sum + literals.length + length, 0);
  const unused = (bits: number[]) => 7 - ((8 - (bits.length % 8)) % 8);
  const field = (...parts: (readonly [at: number, value: number])[]) => parts.reduce((all, [at, value]) => all | (BigInt(value) << BigInt(at)), 0n);
  const head = [
    field([0, literals.length], [20, literalBytes.length], [40, steps.length], [60, unused(literalBits)]),
    field(...literalStates.map((state, i) => [i * 10, state] as const), [40, matchBytes.length], [60, unused(matchBits)]),
    field([0, 32 + tables.length], [32, states[0] as number], [42, states[1] as number], [52, states[2] as number]),
  ].flatMap((value) => u32(Number(value & 0xffffffffn), Number(value >> 32n)));
  return [...letters('bvx2'), ...u32(raw), ...head, ...tables, ...literalBytes, ...matchBytes];
}

const symbolOf = ({ extra, base }: Numbers, value: number): number => extra.findIndex((bits, symbol) => value < (base[symbol] as number) + 2 ** bits);

/** Frequencies that add up to the number of states, each at least 1 where a symbol occurs. */
function frequenciesOf(values: readonly number[], table: Numbers): number[] {
  const counts = table.extra.map(() => 0);
  for (const value of values) {
    const symbol = symbolOf(table, value);
    counts[symbol] = (counts[symbol] as number) + 1;
  }
  const list = counts.map((count) => (count === 0 ? 0 : Math.max(1, Math.floor((count * table.states) / values.length))));
  for (let sum = list.reduce((a, b) => a + b, 0); sum !== table.states; sum += sum < table.states ? 1 : -1) {
    const largest = list.indexOf(Math.max(...list));
    list[largest] = (list[largest] as number) + (sum < table.states ? 1 : -1);
  }
  return list;
}

/** The bits of a frequency in the header, the lowest first. */
function frequencyBits(value: number): number[] {
  const bits = (code: number, count: number) => Array.from({ length: count }, (_, i) => (code >> i) & 1);
  const short = [
    [0, 2],
    [2, 2],
    [1, 3],
    [5, 3],
    [3, 5],
    [11, 5],
    [19, 5],
    [27, 5],
  ][value];
  if (short) return bits(short[0] as number, short[1] as number);
  return value < 24 ? bits(7 | ((value - 8) << 4), 8) : bits(15 | ((value - 24) << 4), 14);
}

/** Bits into bytes, the lowest first. */
function packed(bits: readonly number[]): number[] {
  const bytes = new Array<number>(Math.ceil(bits.length / 8)).fill(0);
  for (const [i, bit] of bits.entries()) bytes[i >> 3] = (bytes[i >> 3] as number) | (bit << (i & 7));
  return bytes;
}

/** A state coder: the states of a symbol are a run, and the next state is one of them. */
class Coder {
  readonly #table: Numbers;
  readonly #frequencies: readonly number[];
  readonly #starts: number[];

  constructor(frequencies: readonly number[], table: Numbers) {
    this.#table = table;
    this.#frequencies = frequencies;
    this.#starts = frequencies.map((_, symbol) => frequencies.slice(0, symbol).reduce((a, b) => a + b, 0));
  }

  /** Adds the bits of a value to `out`, its extra bits first. Returns the state that a reader starts from. */
  encode(value: number, state: number, out: number[]): number {
    const { states, extra, base } = this.#table;
    const symbol = symbolOf(this.#table, value);
    const add = (number: number, count: number) => {
      for (let i = 0; i < count; i++) out.push((number >> i) & 1);
    };
    add(value - (base[symbol] as number), extra[symbol] as number);
    const frequency = this.#frequencies[symbol] as number;
    // Reading, place i of the run takes so many bits that frequency + i, shifted by them, reaches all states.
    let bits = 0;
    while ((state + states) >> bits >= 2 * frequency) bits++;
    add(state & (2 ** bits - 1), bits);
    const index = ((state + states) >> bits) - frequency;
    return (this.#starts[symbol] as number) + index;
  }
}
