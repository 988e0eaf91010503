/**
 * What a machine needs besides disks: BIOS, VGA BIOS, and for the built-in guest a Linux kernel with its first file system. They
 * come with the page (public/guest, made by `npm run guest`) or, where they are missing, from files that the user drops here.
 */
import { button, element, icon, Signal } from './dom.ts';

export type PartName = 'bios' | 'vgaBios' | 'kernel' | 'initrd';

/** Everything that was found, as bytes. */
export type GuestParts = Readonly<Partial<Record<PartName, ArrayBuffer>>>;

const SERVED: Record<PartName, string> = { bios: 'bios.bin', vgaBios: 'vgabios.bin', kernel: 'vmlinuz', initrd: 'initrd.img' };
const LABELS: Record<PartName, string> = { bios: 'BIOS', vgaBios: 'VGA BIOS', kernel: 'Linux kernel', initrd: 'Initial file system' };
const HINTS: Record<PartName, string> = {
  bios: 'SeaBIOS, bios.bin. Every machine needs one.',
  vgaBios: 'vgabios-stdvga.bin. Every machine needs one.',
  kernel: 'A bzImage (vmlinuz) for 32-bit PCs. Not needed to boot from the disk.',
  initrd: 'The initramfs that goes with the kernel, if it needs one.',
};
const PARTS = Object.keys(SERVED) as PartName[];
const FALLBACK_CMDLINE = 'console=tty1 console=ttyS0';

interface Manifest {
  readonly cmdline: string;
}

export class GuestFiles {
  /** Something came in. */
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

  /** Looks whether the page came with a guest, and asks for files if not. */
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

  /** Loads the parts for this way to boot. The user's own files go before those of the page. */
  async load(boot: 'guest' | 'disk'): Promise<GuestParts> {
    const wanted = PARTS.filter((part) => boot === 'guest' || part === 'bios' || part === 'vgaBios');
    const found: Partial<Record<PartName, ArrayBuffer>> = {};
    for (const part of wanted) {
      const own = this.#own.get(part);
      if (own !== undefined) found[part] = await unpacked(own);
      else if (this.#manifest !== undefined) found[part] = await unpacked(await served(part));
    }
    return found;
  }

  #take(part: PartName, file: File): void {
    this.#own.set(part, file);
    this.#ask();
    this.changed.emit();
  }

  #ask(): void {
    const slots = PARTS.map((part) => {
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
    const text =
      'This copy of the page came without a guest. To run a machine, drop these files here or choose them: they stay in this tab. With BIOS and VGA BIOS alone, a bootable disk can be started.';
    const callout = element('wa-callout', { attributes: { variant: 'warning', size: 's' } }, icon('info', 'icon'), text);
    this.element.replaceChildren(callout, element('ul', { class: 'guest-slots' }, ...slots));
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
    // A server that answers every address with the page itself must not pass for a guest.
    const manifest: unknown = answer.ok ? await answer.json() : undefined;
    const cmdline = typeof manifest === 'object' && manifest !== null && 'cmdline' in manifest ? manifest.cmdline : undefined;
    return typeof cmdline === 'string' ? { cmdline } : undefined;
  } catch {
    return undefined;
  }
}

async function served(part: PartName): Promise<Blob> {
  const answer = await fetch(`./guest/${SERVED[part]}`);
  if (!answer.ok) throw new Error(`${LABELS[part]} (guest/${SERVED[part]}) could not be loaded: ${answer.status}`);
  return answer.blob();
}

/** What is packed with gzip is unpacked here, at once, and not by the guest, in seconds. */
async function unpacked(file: Blob): Promise<ArrayBuffer> {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return file.arrayBuffer();
  return new Response(file.stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}
