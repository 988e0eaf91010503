/**
 * v86, with events that it does not report by itself: that its loop has died (an exception in it, a trap of its WebAssembly, which a
 * triple fault also becomes), that the guest has halted its processor for good, as it does at the end of `poweroff`, and that the guest wants to restart.
 * v86's own restart keeps the memory and forgets the kernel that it was started with, so the machine does the restart, and makes another emulator.
 *
 * v86's `stop` and `destroy` wait for its next tick, which never comes once the loop is dead: those of this class end in any case.
 */
import type { V86 } from 'v86';

/** The events of the emulator. Each is reported while v86 is at work: the listener returns at once, and acts later. */
export interface EmulatorEvents {
  /** The processor waits for an interrupt and has interrupts off. The guest stands still from now on. */
  readonly halted: () => void;
  /** The guest wants to restart. It stands still from now on. */
  readonly restarting: () => void;
  /** The emulator has stopped for good and cannot be used any more. */
  readonly died: (error: unknown) => void;
}

/** The parts of a running v86 that this class uses. Its module builds keep these names; they are not in its types. */
interface Core {
  running: boolean;
  stopping: boolean;
  do_tick(): void;
  next_tick(delay: number): void;
  stop(): void;
  readonly bus: { send(event: string): void };
  readonly cpu: { reboot_internal(): void };
}

/** Milliseconds in which a loop that is alive reaches its next tick, even on a busy computer. */
const TICK_LIMIT = 10_000;

/** See the top of this file. */
export class Emulator {
  readonly v86: V86;
  readonly #events: EmulatorEvents;
  #dead = false;

  private constructor(v86: V86, events: EmulatorEvents) {
    this.v86 = v86;
    this.#events = events;
  }

  /** Waits until a new v86 is ready to run. Rejects once `calledOff` is aborted, for example by the user: v86 reports no failure while it starts. */
  static async make(v86: V86, events: EmulatorEvents, calledOff: AbortSignal): Promise<Emulator> {
    const made = new Emulator(v86, events);
    await new Promise<void>((ready, reject) => {
      calledOff.addEventListener('abort', () => reject(calledOff.reason), { once: true });
      v86.add_listener('emulator-ready', () => {
        if (calledOff.aborted) void made.destroy();
        else ready();
      });
    });
    made.#watch();
    return made;
  }

  /** Whether it can still be used. */
  get alive(): boolean {
    return !this.#dead;
  }

  async run(): Promise<void> {
    if (!this.#dead) await this.v86.run();
  }

  /** Resolves when the guest stands still. */
  async stop(): Promise<void> {
    if (!this.v86.is_running()) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, TICK_LIMIT);
    });
    await Promise.race([this.v86.stop(), limit]);
    clearTimeout(timer);
    if (this.v86.is_running()) this.#die(new Error('The emulator does not answer any more.'));
  }

  /** Stops for good and lets go of the page. Does not reject: only the guest's memory is lost with an emulator. */
  async destroy(): Promise<void> {
    await this.stop();
    // A disk that answers late must not start the loop again.
    if (this.#core) this.#core.next_tick = () => undefined;
    try {
      await this.v86.destroy();
    } catch {
      // The emulator was made only in part.
    }
  }

  get #core(): Core | undefined {
    return (this.v86 as unknown as { v86?: Core }).v86;
  }

  #watch(): void {
    const core = this.#core;
    if (core === undefined) return;
    const tick = core.do_tick.bind(core);
    core.do_tick = () => {
      try {
        tick();
      } catch (error) {
        this.#die(error);
      }
    };
    const restart = core.cpu.reboot_internal.bind(core.cpu);
    core.cpu.reboot_internal = () => {
      // The guest must not go on at the place where it asked for the restart: until v86 stops, at its next tick, it runs the BIOS from the start.
      restart();
      core.stop();
      this.#events.restarting();
    };
    // Not in v86's type declarations.
    this.v86.add_listener('cpu-event-halt' as 'emulator-stopped', () => {
      core.stop();
      this.#events.halted();
    });
  }

  /** Does the work of v86's last tick, so that all callers waiting for it go on. */
  #die(error: unknown): void {
    if (this.#dead) return;
    this.#dead = true;
    const core = this.#core;
    if (core !== undefined) {
      core.running = false;
      core.stopping = false;
      core.bus.send('emulator-stopped');
    }
    this.#events.died(error);
  }
}
