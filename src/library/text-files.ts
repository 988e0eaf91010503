/** Text files that are taken for a disk image: an error page in place of a download, descriptions that lie beside an image, pointers to one. */
import type { ForeignFile } from './foreign-files.ts';
import type { Sample } from './sample.ts';

/** Bytes that have to be text. */
const LOOK = 4096;
/** A text in English, source code or markup has at least this share of ASCII. */
const MOST = 0.75;

interface Row extends ForeignFile {
  readonly is: RegExp;
}

const DESCRIPTION = 'It describes a machine. Import its disk, the .vmdk, .vdi, .vhd or .vhdx beside it';
const AGAIN = 'A download that failed leaves such a file: get the image anew';
const NO_DISK = 'There is no disk in it';

/** The table. The first row that fits counts; the last fits every text. */
export const TEXT_FILES: readonly Row[] = [
  {
    name: 'git-lfs',
    title: 'a pointer of Git LFS',
    advice: 'It stands for a file that was not downloaded. Get that with `git lfs pull`, or from the download button of its page',
    is: /^version https:\/\/git-lfs\.github\.com\/spec\//,
  },
  { name: 'ovf', title: 'the description of a virtual appliance (OVF)', advice: DESCRIPTION, is: /<(\w+:)?Envelope\s[^>]*\bovf\b/i },
  { name: 'vbox', title: 'the settings of a VirtualBox machine', advice: DESCRIPTION, is: /<VirtualBox\s/ },
  { name: 'vmx', title: 'the settings of a VMware machine', advice: DESCRIPTION, is: /^\s*(virtualHW\.version|config\.version)\s*=/m },
  { name: 'html', title: 'a web page (HTML)', advice: AGAIN, is: /^\s*(<!--[\s\S]*?-->\s*)*<(!doctype\s+html|html|head|body|title|meta|script)\b/i },
  { name: 'xml', title: 'an XML file', advice: AGAIN, is: /^\s*<(\?xml\s|[a-z_][\w:.-]*[\s>/])/i },
  {
    name: 'cue',
    title: 'the description of a CD image (CUE)',
    advice: 'The CD itself is in the .bin file beside it. Make an ISO image of the two (bchunk does), and import that',
    is: /^\s*FILE\s+.+\s(BINARY|MOTOROLA|WAVE|MP3|AIFF)\s*\n(.*\n)*?\s*TRACK\s+\d/im,
  },
  {
    name: 'ccd',
    title: 'the description of a CD image (CloneCD)',
    advice: 'The CD itself is in the .img file beside it. Make an ISO image of that (ccd2iso does), and import it',
    is: /^\s*\[CloneCD\]/i,
  },
  { name: 'json', title: 'a JSON file', advice: AGAIN, is: /^\s*(\{\s*("([^"\\\n]|\\.)*"\s*:|\}\s*$)|\[\s*([{["\]\d-]|true|false|null))/ },
  { name: 'script', title: 'a script', advice: NO_DISK, is: /^#!/ },
  { name: 'text', title: 'a text file', advice: NO_DISK, is: /^/ },
];

/** The kind of a file, if it is a text. */
export function textFile({ size, head, tail }: Sample): ForeignFile | undefined {
  const start = head.subarray(0, LOOK);
  const utf16 = utf16Text(start);
  if (utf16 === undefined && !(isText(start) && isText(tail))) return undefined;
  const found = TEXT_FILES.find(({ is }) => is.test(utf16 ?? new TextDecoder().decode(start)));
  // A disk that was filled with a letter is not a text.
  return found?.name === 'text' && size > LOOK && !start.includes(0x0a) && utf16 === undefined ? undefined : found;
}

/** The decoded text, if the bytes begin with the mark of UTF-16 and are a text in it. */
function utf16Text(bytes: Uint8Array): string | undefined {
  const [first, second] = bytes;
  if (!((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))) return undefined;
  const text = new TextDecoder(first === 0xff ? 'utf-16le' : 'utf-16be').decode(bytes.subarray(0, bytes.length & ~1));
  return /[\0-\x08\x0e-\x1a\x1c-\x1f\ufffd]/.test(text.slice(0, -1)) ? undefined : text;
}

/** True if there are no control characters, and all else than ASCII is rare or UTF-8. */
function isText(bytes: Uint8Array): boolean {
  let ascii = 0;
  for (const byte of bytes) {
    const space = (byte >= 0x09 && byte <= 0x0d) || byte === 0x1b;
    if ((byte < 0x20 && !space) || byte === 0x7f) return false;
    if (byte < 0x80) ascii++;
  }
  return bytes.length > 0 && (ascii >= bytes.length * MOST || isUtf8(bytes));
}

/** A character may be cut at either end. */
function isUtf8(bytes: Uint8Array): boolean {
  const start = bytes.findIndex((byte) => byte < 0x80 || byte >= 0xc0);
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(Math.max(0, start)), { stream: true });
    return start >= 0 && start < 4;
  } catch {
    return false;
  }
}
