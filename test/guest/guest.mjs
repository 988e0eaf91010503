/**
 * How to run the guest in v86, for a test in Node, a test page or the demo
 * alike (no Node modules here): guestOptions() makes the options of the V86
 * constructor from the files that build.mjs wrote, and GuestConsole types
 * commands into the guest's serial shell and reads what they say.
 */

const MIB = 2 ** 20;
const PROMPT = 'tabdisk# ';
const ESCAPE_SEQUENCES = /\x1b\[[0-9;?]*[A-Za-z]/g;

async function gunzip(buffer) {
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

/**
 * Options for `new V86()`, to which the caller adds wasm_path, disks and what
 * else it wants. `read(name)` returns a promise of an ArrayBuffer with a file
 * of public/guest/.
 */
export async function guestOptions(read) {
  const names = ['manifest.json', 'bios.bin', 'vgabios.bin', 'vmlinuz', 'initrd.img'];
  const [manifest, bios, vgaBios, kernel, initrd] = await Promise.all(names.map(read));
  return {
    bios: { buffer: bios },
    vga_bios: { buffer: vgaBios },
    bzimage: { buffer: await gunzip(kernel) },
    initrd: { buffer: await gunzip(initrd) },
    cmdline: JSON.parse(new TextDecoder().decode(manifest)).cmdline,
    // v86 puts the initrd at 64 MiB, so the guest needs more; 80 MiB still boots.
    memory_size: 128 * MIB,
    vga_memory_size: 2 * MIB,
    fastboot: true,
    disable_speaker: true,
    autostart: true,
  };
}

export class GuestConsole {
  /** `emulator` is a V86; make the console before the guest starts to speak. */
  constructor(emulator) {
    this.emulator = emulator;
    this.text = '';
    this.waiters = new Set();
    this.listener = (byte) => {
      this.text += String.fromCharCode(byte);
      for (const check of this.waiters) check();
    };
    emulator.add_listener('serial0-output-byte', this.listener);
  }

  close() {
    this.emulator.remove_listener('serial0-output-byte', this.listener);
  }

  /** Resolves with the match once `pattern` matches what follows `from`. */
  waitFor(pattern, timeoutMs, from = 0) {
    return new Promise((resolve, reject) => {
      const settle = (action, value) => {
        clearTimeout(timer);
        this.waiters.delete(check);
        action(value);
      };
      const check = () => {
        const match = pattern.exec(this.text.slice(from));
        if (match) settle(resolve, match);
      };
      const timer = setTimeout(() => {
        const tail = JSON.stringify(this.text.slice(-500));
        settle(reject, new Error(`guest: no ${pattern} in ${timeoutMs} ms; it ended with ${tail}`));
      }, timeoutMs);
      this.waiters.add(check);
      check();
    });
  }

  /** Resolves when the guest has booted and its shell takes commands. */
  async ready(timeoutMs = 300_000) {
    await this.waitFor(new RegExp(`GUEST READY[^]*${PROMPT}`), timeoutMs);
  }

  /**
   * Runs one line of shell; resolves with its exit status and its output (both
   * streams). The marks around the output are control characters which the
   * typed line spells as escapes, so the echo of that line cannot match.
   */
  async run(command, timeoutMs = 240_000) {
    const from = this.text.length;
    const start = performance.now();
    this.emulator.serial0_send(`printf '\\001'; ${command}; printf '\\002%d\\003' $?\n`);
    const match = await this.waitFor(/\x01([^]*)\x02(\d+)\x03[^]*tabdisk# /, timeoutMs, from);
    const output = match[1].replaceAll('\r\n', '\n').replace(ESCAPE_SEQUENCES, '');
    return { status: Number(match[2]), output, milliseconds: performance.now() - start };
  }

  /**
   * Shuts the guest down, file systems unmounted; afterwards the emulator idles
   * and its disks are at rest. v86 alone cannot restart it: make a new V86 for that.
   */
  async powerOff(timeoutMs = 120_000) {
    const from = this.text.length;
    this.emulator.serial0_send('poweroff\n');
    await this.waitFor(/System halted/, timeoutMs, from);
  }

  /** The output of a command which must succeed. */
  async check(command, timeoutMs) {
    const { status, output } = await this.run(command, timeoutMs);
    if (status !== 0) throw new Error(`guest: \`${command}\` ended with ${status}: ${output}`);
    return output;
  }
}
