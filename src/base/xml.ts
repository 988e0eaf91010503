/**
 * Reading small XML files of strangers: elements, attributes and text, without their namespaces' prefixes. Document types are refused, and with them all
 * entities of one's own: no text grows by being read. What is no XML, and what is too large or too deep, is `corrupt`.
 */
import { corrupt, unsupported } from './errors.ts';
import { MiB } from './units.ts';

/** An element. */
export interface XmlElement {
  /** Without its prefix. */
  readonly name: string;
  /** By their names without prefixes. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** All text right inside it, without the spaces at both ends. */
  readonly text: string;
}

/** Characters of a file. */
export const LARGEST_XML = 4 * MiB;
const DEEPEST = 64;
const MOST_ELEMENTS = 50_000;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const NAME = '[^\\s<>/=!?"\'&]{1,256}';
const TAG = new RegExp(`<(/?)(${NAME})((?:\\s+${NAME}\\s*=\\s*(?:"[^"<]*"|'[^'<]*'))*)\\s*(/?)>`, 'y');
const ATTRIBUTE = new RegExp(`(${NAME})\\s*=\\s*(?:"([^"<]*)"|'([^'<]*)')`, 'g');

interface Open {
  readonly name: string;
  readonly full: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: XmlElement[];
  text: string;
}

/** The root element of a file. `format` is for messages. `first`: what is behind the root element is not looked at. */
export function parseXml(source: string, format: string, { first = false }: { readonly first?: boolean } = {}): XmlElement {
  const wrong = (what: string, at: number) => corrupt(format, `${what} at character ${at} of the XML text`, { field: 'XML', offset: at });
  if (source.length > LARGEST_XML) throw corrupt(format, `an XML text of ${source.length} characters, more than ${LARGEST_XML}`, { field: 'XML' });
  const open: Open[] = [];
  let root: XmlElement | undefined;
  let count = 0;
  for (let at = 0; at < source.length && !(first && root); ) {
    const start = source.indexOf('<', at);
    const between = source.slice(at, start < 0 ? undefined : start);
    const top = open.at(-1);
    if (top) top.text += plain(between, (what) => wrong(what, at));
    else if (/[^\s\ufeff]/.test(between)) throw wrong('text outside of all elements', at);
    if (start < 0) break;
    const passed = passedOver(source, start);
    if (passed) {
      if (passed.end < 0) throw wrong('something that does not end', start);
      if (top) top.text += passed.text;
      at = passed.end;
      continue;
    }
    if (source.startsWith('<!', start))
      throw unsupported(format, 'the XML text has a document type, in which entities may be defined: it is not read', {
        field: 'DOCTYPE',
        offset: start,
      });
    TAG.lastIndex = start;
    const [whole = '', closing, full = '', attributes = '', empty] = TAG.exec(source) ?? [];
    if (whole === '') throw wrong('something that is no tag', start);
    at = start + whole.length;
    if (closing) {
      const element = open.pop();
      if (element?.full !== full) throw wrong(`the end of <${full}>, which is not open,`, start);
      root = finish(element, open);
      continue;
    }
    if (root && open.length === 0) throw wrong('a second root element', start);
    if (open.length >= DEEPEST) throw wrong(`an element that is ${DEEPEST} deep`, start);
    if (++count > MOST_ELEMENTS) throw wrong(`more than ${MOST_ELEMENTS} elements`, start);
    const element: Open = { name: local(full), full, attributes: readAttributes(attributes, (what) => wrong(what, start)), children: [], text: '' };
    if (empty) root = finish(element, open);
    else open.push(element);
  }
  if (!root || open.length > 0) throw wrong('an element that is not ended', source.length);
  return root;
}

const local = (name: string): string => name.slice(name.indexOf(':') + 1);

/** Puts an element that has ended into the one around it. Returns it if there is none. */
function finish({ name, attributes, children, text }: Open, open: readonly Open[]): XmlElement | undefined {
  const element = { name, attributes, children, text: text.trim() };
  const around = open.at(-1);
  if (!around) return element;
  around.children.push(element);
  return undefined;
}

/** Comments, instructions, and text as it stands: where they end, and their text; undefined for anything else. */
function passedOver(source: string, start: number): { readonly end: number; readonly text: string } | undefined {
  for (const [begin, end, isText] of [
    ['<!--', '-->', false],
    ['<?', '?>', false],
    ['<![CDATA[', ']]>', true],
  ] as const) {
    if (!source.startsWith(begin, start)) continue;
    const found = source.indexOf(end, start + begin.length);
    return { end: found < 0 ? -1 : found + end.length, text: isText ? source.slice(start + begin.length, found) : '' };
  }
  return undefined;
}

function readAttributes(source: string, wrong: (what: string) => Error): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name = '', double, single] of source.matchAll(ATTRIBUTE)) attributes.set(local(name), plain(double ?? single ?? '', wrong));
  return attributes;
}

function plain(source: string, wrong: (what: string) => Error): string {
  if (!source.includes('&')) return source;
  return source.replace(/&([^;&]{0,16});?/g, (whole, name: string) => {
    const known = ENTITIES[name];
    if (known !== undefined && whole.endsWith(';')) return known;
    const code = /^#x[0-9a-f]+$/i.test(name) ? Number.parseInt(name.slice(2), 16) : /^#\d+$/.test(name) ? Number(name.slice(1)) : Number.NaN;
    if (!(code > 0 && code <= 0x10ffff)) throw wrong(`the entity ${whole}, which is not known,`);
    return String.fromCodePoint(code);
  });
}
