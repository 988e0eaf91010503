/**
 * How fast storages may be used: limits on bytes and on requests each second, kept by leaky buckets as QEMU keeps them. A request starts when
 * none of its buckets is over the limit, and then counts as a whole, however large; requests that come too fast wait until enough has leaked. Members
 * of a group share its limits and take turns. Time comes from a clock that can be replaced, so that tests need not wait.
 */
import { check, type Members, NUMBER, objectWith, optionsOf } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type Io, wait } from '../base/io.ts';

/** The kinds of requests. */
export type ThrottleDirection = 'read' | 'write';

/** The limited quantity: bytes or requests a second, of one direction or of both. */
export type RateName = `${'bps' | 'iops'}-${'total' | ThrottleDirection}`;

/**
 * Limits under QEMU's names; 0 or missing: none. `bps-…` are bytes a second, `iops-…` requests a second. With `…-max` that rate is allowed for
 * a burst of `…-max-length` seconds (default 1). Requests of more than `iops-size` bytes count as several.
 */
export type ThrottleLimits = { readonly [name in RateName | `${RateName}-max` | `${RateName}-max-length` | 'iops-size']?: number };

/** The source of time. */
export interface ThrottleClock {
  /** Milliseconds since any moment, never less than before. */
  now(): number;
  /** Calls back when so many milliseconds have passed, or earlier. Returns a function that cancels the call. */
  after(milliseconds: number, call: () => void): () => void;
}

const LONGEST_TIMER = 2 ** 31 - 1;

const systemClock: ThrottleClock = {
  now: () => performance.now(),
  after(milliseconds, call) {
    const timer = setTimeout(call, Math.min(Math.ceil(milliseconds), LONGEST_TIMER));
    return () => clearTimeout(timer);
  },
};

const RATES: readonly RateName[] = ['bps-total', 'bps-read', 'bps-write', 'iops-total', 'iops-read', 'iops-write'];

/** Every name of a limit. */
export const THROTTLE_LIMITS: readonly (keyof ThrottleLimits)[] = [
  ...RATES.flatMap((rate) => [rate, `${rate}-max`, `${rate}-max-length`] as const),
  'iops-size',
];

const LIMITS = optionsOf<ThrottleLimits>(Object.fromEntries(THROTTLE_LIMITS.map((name) => [name, NUMBER])) as Members<ThrottleLimits>);
const GROUP = optionsOf<{ clock?: ThrottleClock }>({ clock: objectWith('a clock', ['now', 'after']) });

const LARGEST_RATE = 10 ** 15;

/** Throws `refused` with QEMU's words for limits that contradict each other. */
export function checkThrottleLimits(limits: ThrottleLimits): void {
  check('throttle', 'limits', limits, LIMITS);
  const require = (field: string, ok: boolean, message: string): void => {
    if (!ok) throw new DiskError('refused', message, { field });
  };
  const of = (name: keyof ThrottleLimits): number => limits[name] ?? 0;
  for (const unit of ['bps', 'iops'] as const)
    for (const kind of ['', '-max'] as const)
      require(`${unit}-total${kind}`, of(`${unit}-total${kind}`) === 0 ||
        (of(`${unit}-read${kind}`) === 0 &&
          of(`${unit}-write${kind}`) === 0), 'bps/iops/max total values and read/write values cannot be used at the same time');
  const counted = of('iops-total') + of('iops-read') + of('iops-write') !== 0;
  require('iops-size', of('iops-size') === 0 || counted, 'iops size requires an iops value to be set');
  for (const rate of RATES) {
    const [average, max, length] = [of(rate), of(`${rate}-max`), limits[`${rate}-max-length`] ?? 1];
    const possible = (value: number) => value >= 0 && value <= LARGEST_RATE;
    require(rate, possible(average) && possible(max), `bps/iops/max values must be within [0, ${LARGEST_RATE}]`);
    require(`${rate}-max-length`, length !== 0, 'the burst length cannot be 0');
    require(`${rate}-max-length`, length === 1 || max !== 0, 'burst length set without burst rate');
    require(`${rate}-max-length`, max === 0 || length <= Math.floor(LARGEST_RATE / max), 'burst length too high for this burst rate');
    require(`${rate}-max`, max === 0 || average !== 0, 'bps_max/iops_max require corresponding bps/iops values');
    require(`${rate}-max`, max === 0 || max >= average, 'bps_max/iops_max cannot be lower than bps/iops');
  }
}

/** One limit. Without a burst rate the amount of a tenth of a second may pass at once; the same holds at the burst rate in a longer burst. */
class Bucket {
  readonly average: number;
  readonly #max: number;
  readonly #seconds: number;
  #level = 0;
  #burst = 0;

  constructor(average: number, max: number, seconds: number) {
    this.average = average;
    this.#max = max;
    this.#seconds = seconds;
  }

  pour(amount: number): void {
    this.#level += amount;
    if (this.#seconds > 1) this.#burst += amount;
  }

  leak(milliseconds: number): void {
    this.#level = Math.max(0, this.#level - (this.average * milliseconds) / 1000);
    this.#burst = Math.max(0, this.#burst - (this.#max * milliseconds) / 1000);
  }

  /** Milliseconds until there is room. */
  get delay(): number {
    const room = this.#max === 0 ? this.average / 10 : this.#max * this.#seconds;
    if (this.#level > room) return ((this.#level - room) / this.average) * 1000;
    return this.#seconds > 1 ? Math.max(0, ((this.#burst - this.#max / 10) / this.#max) * 1000) : 0;
  }
}

/** One request at a time: the others wait, and the members with waiting requests take turns. */
class Turnstile {
  /** The member whose turn it is. */
  #holder: object | undefined;
  readonly #waiting = new Map<object, ((taken: boolean) => void)[]>();

  /** True if the turn was taken; false if the member was released without a turn, or the request aborted. */
  *enter(member: object, signal: AbortSignal | undefined): Io<boolean> {
    if (!this.#holder) {
      this.#holder = member;
      return true;
    }
    let abort = () => {};
    const turn = new Promise<boolean>((resolve) => {
      const queue = this.#waiting.get(member) ?? [];
      this.#waiting.set(member, queue);
      queue.push(resolve);
      abort = () => {
        const at = queue.indexOf(resolve);
        if (at >= 0) queue.splice(at, 1);
        if (queue.length === 0 && this.#waiting.get(member) === queue) this.#waiting.delete(member);
        resolve(false);
      };
    });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return yield* wait(turn);
    } catch (error) {
      // Abandoned by runSync: pass the turn on as soon as it becomes ours.
      void turn.then((taken) => taken && this.leave());
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  leave(): void {
    const more = this.#holder && this.#waiting.get(this.#holder);
    if (this.#holder && more) {
      // Moves the member to the end of the row.
      this.#waiting.delete(this.#holder);
      this.#waiting.set(this.#holder, more);
    }
    const [first] = this.#waiting;
    this.#holder = first?.[0];
    if (!first) return;
    const [member, queue] = first;
    const next = queue.shift();
    if (queue.length === 0) this.#waiting.delete(member);
    next?.(true);
  }

  letGo(member: object): void {
    const queue = this.#waiting.get(member) ?? [];
    this.#waiting.delete(member);
    for (const resolve of queue) resolve(false);
  }
}

/** A request that takes a turn and waits for time to pass. */
interface Sleeper {
  readonly member: object;
  free: boolean;
  wake: () => void;
}

/** Limits of one storage, or of several together. */
export class ThrottleGroup {
  readonly #clock: ThrottleClock;
  readonly #turnstiles = { read: new Turnstile(), write: new Turnstile() };
  readonly #sleepers = new Set<Sleeper>();
  #limits: ThrottleLimits = {};
  #buckets: ReadonlyMap<RateName, Bucket> = new Map();
  #leaked = 0;

  /** Throws `refused` for limits that contradict each other. */
  constructor(limits: ThrottleLimits = {}, options: { clock?: ThrottleClock } = {}) {
    check('ThrottleGroup', 'options', options, GROUP);
    this.#clock = options.clock ?? systemClock;
    this.limits = limits;
  }

  get limits(): ThrottleLimits {
    return this.#limits;
  }

  /** Sets other limits, also for requests that wait already; the buckets are empty. Throws `refused` and keeps the old ones. */
  set limits(limits: ThrottleLimits) {
    checkThrottleLimits(limits);
    this.#limits = { ...limits };
    const used = RATES.filter((rate) => (limits[rate] ?? 0) > 0);
    this.#buckets = new Map(used.map((rate) => [rate, new Bucket(limits[rate] ?? 0, limits[`${rate}-max`] ?? 0, limits[`${rate}-max-length`] ?? 1)]));
    this.#leaked = this.#clock.now();
    for (const { wake } of this.#sleepers) wake();
  }

  /** False if no request ever waits. */
  get limiting(): boolean {
    return this.#buckets.size > 0;
  }

  /** Returns when a member's request of so many bytes may begin, or at once if it is aborted: the caller has to check that. */
  *admit(member: object, direction: ThrottleDirection, bytes: number, signal?: AbortSignal): Io<void> {
    const turnstile = this.#turnstiles[direction];
    if (!this.limiting || !(yield* turnstile.enter(member, signal))) return;
    const sleeper: Sleeper = { member, free: false, wake: () => undefined };
    const abort = () => this.#free(sleeper);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      yield* this.#sleep(sleeper, direction);
      if (!signal?.aborted) this.#account(direction, bytes);
    } finally {
      signal?.removeEventListener('abort', abort);
      turnstile.leave();
    }
  }

  /** Lets the waiting requests of a member start at once, for example because it is being closed. */
  letGo(member: object): void {
    for (const turnstile of Object.values(this.#turnstiles)) turnstile.letGo(member);
    for (const sleeper of this.#sleepers) if (sleeper.member === member) this.#free(sleeper);
  }

  #free(sleeper: Sleeper): void {
    sleeper.free = true;
    sleeper.wake();
  }

  *#sleep(sleeper: Sleeper, direction: ThrottleDirection): Io<void> {
    for (let delay = this.#delay(direction); delay > 0 && !sleeper.free; delay = this.#delay(direction)) {
      let giveUp = () => {};
      const woken = new Promise<void>((resolve) => {
        sleeper.wake = resolve;
        giveUp = this.#clock.after(delay, resolve);
      });
      this.#sleepers.add(sleeper);
      try {
        yield* wait(woken);
      } finally {
        this.#sleepers.delete(sleeper);
        giveUp();
      }
    }
  }

  #bucketsOf(direction: ThrottleDirection): Bucket[] {
    const names: readonly RateName[] = ['bps-total', 'iops-total', `bps-${direction}`, `iops-${direction}`];
    return names.flatMap((name) => this.#buckets.get(name) ?? []);
  }

  #delay(direction: ThrottleDirection): number {
    const now = this.#clock.now();
    for (const bucket of this.#buckets.values()) bucket.leak(now - this.#leaked);
    this.#leaked = now;
    const delay = Math.max(0, ...this.#bucketsOf(direction).map((bucket) => bucket.delay));
    // Less than a nanosecond is an error of rounding.
    return delay < 1e-6 ? 0 : delay;
  }

  #account(direction: ThrottleDirection, bytes: number): void {
    const { 'iops-size': size = 0 } = this.#limits;
    const operations = size > 0 && bytes > size ? bytes / size : 1;
    for (const name of ['bps-total', `bps-${direction}`] as const) this.#buckets.get(name)?.pour(bytes);
    for (const name of ['iops-total', `iops-${direction}`] as const) this.#buckets.get(name)?.pour(operations);
  }
}
