/**
 * The files that a machine needs besides disks: BIOS, VGA BIOS, and for the built-in guest a Linux kernel with its first file system. They
 * come with the page (public/guest, made by `npm run guest`) or, if they are missing there, from files that the user drops here.
 */
import { button, element, icon, Signal } from './dom.ts';
import { loadServed } from './served.ts';

export type PartName = 'bios' | 'vgaBios' | 'kernel' | 'initrd';

/** Everything that was found, as bytes. */
export type GuestParts = Readonly<Partial<Record<PartName, ArrayBuffer>>>;

const SERVED: Record<PartName, string> = { bios: 'bios.bin', vgaBios: 'vgabios.bin', kernel: 'vmlinuz', initrd: 'initrd.img' };
const LABELS: Record<PartName, string> = { bios: 'BIOS', vgaBios: 'VGA BIOS', kernel: 'Linux kernel', initrd: 'Initial file system' };
const HINTS: Record<PartName, string> = {
  bios: 'seabios.bin or bios.bin. Every machine needs one.',
  vgaBios: 'vgabios.bin or vgabios-stdvga.bin. Every machine needs one.',
  kernel: 'A bzImage (vmlinuz) for 32-bit PCs.',
  initrd: 'The initramfs that goes with the kernel, if it needs one.',
};
/** The files that boot without a kernel from outside, and the folder of v86's project that has them: the npm package `v86` does not have them. */
const FIRMWARE: readonly PartName[] = ['bios', 'vgaBios'];
const FIRMWARE_ADDRESS = 'https://github.com/copy/v86/tree/master/bios';
const PARTS = Object.keys(SERVED) as PartName[];
const FALLBACK_CMDLINE = 'console=tty1 console=ttyS0';

interface Manifest {
  readonly cmdline: string;
  /** Sizes of the files by name, in bytes. */
  readonly sizes: ReadonlyMap<string, number>;
}

export class GuestFiles {
  /** A file was added. */
  readonly changed = new Signal<void>();
  readonly element = element('div', { class: 'guest-files', testId: 'guest-files', attributes: { hidden: true, 'data-own-drop': true } });
  readonly #own = new Map<PartName, File>();
  #manifest: Manifest | undefined;

  constructor() {
    this.element.addEventListener('drop', (event) => {
      event.preventDefault();
      for (const file of event.dataTransfer?.files ?? []) this.#take(guess(file.name), file);
    });
  }

  /** Checks whether the page came with a guest, and asks for files if not. */
  async look(): Promise<void> {
    this.#manifest = await readManifest();
    this.element.hidden = this.#manifest !== undefined;
    if (this.#manifest === undefined) this.#ask();
    this.changed.emit();
  }

  /** True if the parts for this way to boot are there. */
  ready(boot: 'guest' | 'disk'): boolean {
    const has = (part: PartName): boolean => this.#manifest !== undefined || this.#own.has(part);
    return has('bios') && has('vgaBios') && (boot === 'disk' || has('kernel'));
  }

  get cmdline(): string {
    return this.#manifest?.cmdline ?? FALLBACK_CMDLINE;
  }

  /** Loads the parts for this way to boot. The user's own files are preferred to those of the page. */
  async load(boot: 'guest' | 'disk'): Promise<GuestParts> {
    const wanted = PARTS.filter((part) => boot === 'guest' || part === 'bios' || part === 'vgaBios');
    const found: Partial<Record<PartName, ArrayBuffer>> = {};
    for (const part of wanted) {
      const own = this.#own.get(part);
      if (own !== undefined) found[part] = await unpacked(await own.arrayBuffer());
      else if (this.#manifest !== undefined) found[part] = await unpacked(await served(part, this.#manifest));
    }
    return found;
  }

  #take(part: PartName, file: File): void {
    this.#own.set(part, file);
    this.#ask();
    this.changed.emit();
  }

  #ask(): void {
    const kernel = PARTS.filter((part) => !FIRMWARE.includes(part));
    const link = element('a', { attributes: { href: FIRMWARE_ADDRESS, target: '_blank', rel: 'noopener noreferrer' } }, 'the folder bios of v86');
    const words = element(
      'div',
      { class: 'message-words' },
      element('strong', {}, 'This copy of the page came without its Linux, but a PC starts from a disk or a CD of your own'),
      element(
        'span',
        {},
        'Import an image that boots (an installation CD, or a disk with a system on it), and give the machine a BIOS and a VGA BIOS here: choose the two files, or drop them. You find them as seabios.bin and vgabios.bin in ',
        link,
        ', or in Debian’s package seabios under /usr/share/seabios. They stay in this tab.',
      ),
    );
    const callout = element('wa-callout', { attributes: { variant: 'neutral', size: 's' } }, icon('info', 'icon'), words);
    const open = kernel.some((part) => this.#own.has(part));
    const more = element('wa-details', { testId: 'guest-kernel-details', attributes: { summary: 'Start a Linux kernel of your own instead', open } });
    more.append(this.#slots(kernel));
    this.element.replaceChildren(callout, this.#slots(FIRMWARE), more);
  }

  #slots(parts: readonly PartName[]): HTMLElement {
    const slots = parts.map((part) => {
      const input = element('input', { testId: `guest-${part}`, attributes: { type: 'file', hidden: true } });
      input.addEventListener('change', () => {
        const [file] = input.files ?? [];
        if (file !== undefined) this.#take(part, file);
      });
      const name = this.#own.get(part)?.name;
      const words = element('span', {}, element('strong', {}, LABELS[part]), element('span', { class: 'quiet' }, name ?? HINTS[part]));
      const press = (): void => input.click();
      return element('li', {}, words, button(name === undefined ? 'Choose' : 'Change', { testId: `guest-${part}-choose`, press }), input);
    });
    return element('ul', { class: 'guest-slots' }, ...slots);
  }
}

function guess(name: string): PartName {
  if (/vga/i.test(name)) return 'vgaBios';
  if (/bios|\.bin$|\.rom$/i.test(name)) return 'bios';
  return /initr|cpio|\.img$/i.test(name) ? 'initrd' : 'kernel';
}

async function readManifest(): Promise<Manifest | undefined> {
  try {
    const answer = await fetch('./guest/manifest.json');
    // A server that answers every address with the page itself must not count as a guest.
    const manifest = (answer.ok ? await answer.json() : undefined) as { cmdline?: unknown; files?: unknown } | undefined;
    if (typeof manifest?.cmdline !== 'string') return undefined;
    const files = Array.isArray(manifest.files) ? (manifest.files as { name?: unknown; size?: unknown }[]) : [];
    const sizes = files.flatMap(({ name, size }) => (typeof name === 'string' && typeof size === 'number' ? [[name, size] as const] : []));
    return { cmdline: manifest.cmdline, sizes: new Map(sizes) };
  } catch {
    return undefined;
  }
}

function served(part: PartName, { sizes }: Manifest): Promise<ArrayBuffer> {
  const name = SERVED[part];
  return loadServed({ label: `${LABELS[part]} (guest/${name})`, address: `./guest/${name}`, size: sizes.get(name) });
}

/** Files packed with gzip are unpacked here, at once, and not by the guest, in seconds (unless the browser cannot). */
async function unpacked(file: ArrayBuffer): Promise<ArrayBuffer> {
  const [first, second] = new Uint8Array(file, 0, Math.min(2, file.byteLength));
  if (first !== 0x1f || second !== 0x8b || typeof DecompressionStream === 'undefined') return file;
  return new Response(new Blob([file]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}
