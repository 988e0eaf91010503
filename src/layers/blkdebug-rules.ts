/**
 * Rules of the debugging layer: which action follows which event, in the form of QEMU's blkdebug. A rules file has sections `[inject-error]` and
 * `[set-state]` of lines `key = "value"`; options give the same under `inject-error.0.event` and so on. `DebugRules` judges them: it has a
 * state, 1 at the start, and rules with a state other than 0 count in that state only. All rules of one event are judged by the state before it.
 * Rules that inject errors stay in force until the next event that arms any; wrong rules are `refused` in QEMU's words.
 */
import { DEBUG_EVENTS, type DebugEvent } from '../base/debug-events.ts';
import { OptionSet, refusedOption } from '../base/options.ts';
import { SECTOR } from '../base/units.ts';

const IO_TYPES = ['read', 'write', 'write-zeroes', 'discard', 'flush', 'block-status'] as const;

/** The kind of a request. */
export type IoType = (typeof IO_TYPES)[number];

interface InjectRule {
  readonly action: 'inject-error';
  readonly event: DebugEvent;
  readonly state: number;
  /** The error by Linux's number; 0: the matching requests succeed. */
  readonly errno: number;
  /** Only requests that touch this byte. */
  readonly offset: number | undefined;
  readonly once: boolean;
  /** Only requests of this kind; default: all except `block-status`. */
  readonly ioType: IoType | undefined;
}

interface StateRule {
  readonly action: 'set-state';
  readonly event: DebugEvent;
  readonly state: number;
  readonly newState: number;
}

interface BreakRule {
  readonly action: 'suspend';
  readonly event: DebugEvent;
  readonly state: 0;
  readonly tag: string;
}

export type DebugRule = InjectRule | StateRule | BreakRule;

type Section = 'inject-error' | 'set-state';

const FIELDS: Readonly<Record<Section, RegExp>> = {
  'inject-error': /^(event|state|iotype|errno|sector|once|immediately)$/,
  'set-state': /^(event|state|new_state)$/,
};
const SECTIONS = Object.keys(FIELDS) as Section[];

export class DebugRules {
  #rules: DebugRule[];
  /** The rules that inject errors now. */
  #armed: InjectRule[] = [];
  #state = 1;

  constructor(rules: readonly DebugRule[] = []) {
    this.#rules = [...rules];
    this.fire('none');
  }

  /** A breakpoint is set. */
  get suspends(): boolean {
    return this.#rules.some(({ action }) => action === 'suspend');
  }

  /** Stops the next request that reaches this event, once. */
  add(rule: Omit<BreakRule, 'action' | 'state'>): void {
    this.#rules.push({ action: 'suspend', state: 0, ...rule });
  }

  /** Removes the breakpoints of this name, or all; false if there is none. */
  removeBreakpoints(tag?: string): boolean {
    const before = this.#rules.length;
    this.#rules = this.#rules.filter((rule) => rule.action !== 'suspend' || (tag !== undefined && rule.tag !== tag));
    return this.#rules.length < before;
  }

  /** Judges an event. Returns the names of the breakpoints that the request meets, the latest first; they are gone now. */
  fire(event: DebugEvent): string[] {
    const due = this.#rules.filter((rule) => rule.event === event && (rule.state === 0 || rule.state === this.#state));
    const injected = due.filter((rule) => rule.action === 'inject-error');
    if (injected.length > 0) this.#armed = injected;
    // If several match, the rule that was given first decides.
    const next = due.find((rule) => rule.action === 'set-state');
    if (next) this.#state = next.newState;
    const stops = due.filter((rule) => rule.action === 'suspend');
    if (stops.length > 0) this.#rules = this.#rules.filter((rule) => !stops.some((stop) => stop === rule));
    return stops.map(({ tag }) => tag).reverse();
  }

  /** The error number that strikes a request, 0 for none. A flush touches no byte. */
  strike(type: IoType, offset: number, length: number): number {
    const rule = this.#armed.find(
      (one) =>
        (one.offset === undefined || (one.offset >= offset && one.offset < offset + length)) &&
        (one.ioType === undefined ? type !== 'block-status' : one.ioType === type),
    );
    if (!rule || rule.errno === 0) return 0;
    if (rule.once) {
      this.#armed = this.#armed.filter((one) => one !== rule);
      this.#rules = this.#rules.filter((one) => one !== rule);
    }
    return rule.errno;
  }
}

/** The event of this name, if there is one. */
export function findEvent(name: string): DebugEvent | undefined {
  return DEBUG_EVENTS.find((event) => event === name);
}

/** Takes the rules out of a node's options. */
export function takeRules(options: OptionSet): DebugRule[] {
  return SECTIONS.flatMap((section) => {
    const given = options.child(section);
    if (given.empty) return [];
    const names = [...given.entries()].map(([name]) => name);
    if (names.some((name) => FIELDS[section].test(name))) return [readSection(section, given, 'doesnt')];
    const rules: DebugRule[] = [];
    for (let index = 0; ; index++) {
      const list = given.child(`${index}`);
      if (list.empty) break;
      rules.push(readSection(section, list, 'doesnt'));
    }
    const [unused] = given.rest();
    if (unused !== undefined) throw refusedOption(section, `Unused option '${unused}' for [${section}]`);
    return rules;
  });
}

/** Reads a rules file. */
export function parseRules(text: string): DebugRule[] {
  const sections: { section: Section; values: OptionSet }[] = [];
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const group = /^\[([^\]\s]+)\s+"[^"]+"\]/.exec(line) ?? /^\[([^\]]+)/.exec(line);
    if (group) {
      const section = SECTIONS.find((one) => one === group[1]);
      if (!section) throw refusedOption('config', `There is no option group '${group[1]}'`);
      sections.push({ section, values: new OptionSet() });
      continue;
    }
    const [, name, value = ''] = /^\s*(\S+)(?:\s*=\s*"([^"]*)")?/.exec(line) ?? [];
    if (name === undefined) throw refusedOption('config', 'parse error');
    const open = sections.at(-1);
    if (!open) throw refusedOption('config', 'no group defined');
    open.values.replace(name, value);
  }
  const all = sections.map(({ section, values }) => readSection(section, values, 'Invalid'));
  // In this order, whatever their order in the file.
  return SECTIONS.flatMap((section) => all.filter(({ action }) => action === section));
}

/** QEMU words an unknown field in options in one way, in a file in another. */
function readSection(section: Section, values: OptionSet, words: 'doesnt' | 'Invalid'): DebugRule {
  const unknown = values.rest().find((name) => !FIELDS[section].test(name));
  if (unknown !== undefined)
    throw refusedOption(
      section,
      words === 'Invalid' ? `Invalid parameter '${unknown}'` : `[${section}] section doesn't support the option '${unknown}'`,
    );
  const rule = { state: values.number('state') ?? 0 };
  const more = section === 'inject-error' ? injectFields(values) : { action: section, newState: values.number('new_state') ?? 0 };
  if (!values.has('event')) throw refusedOption(section, 'Missing event name for rule');
  const event = values.choice('event', DEBUG_EVENTS) as DebugEvent;
  return { ...rule, ...more, event };
}

function injectFields(values: OptionSet): Omit<InjectRule, 'event' | 'state'> {
  const errno = values.number('errno') ?? 5;
  const sector = values.number('sector');
  const once = values.flag('once') ?? false;
  // An error meets its request at the same point of it either way: there is no queue here through which the error could be handed back.
  values.flag('immediately');
  const ioType = values.choice('iotype', IO_TYPES);
  return { action: 'inject-error', errno, offset: sector === undefined ? undefined : sector * SECTOR, once, ioType };
}
