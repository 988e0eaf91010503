/**
 * The Run tab: settings of a machine with the chosen image in its first drive; and once it runs, its screen, its serial console, what
 * it reads and writes, and whether that is saved.
 */
import { formatSize } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { button, element, icon } from './dom.ts';
import { focusAfter } from './focus.ts';
import type { GuestFiles } from './guest-files.ts';
import type { MachineState } from './machine.ts';
import type { Chosen, Panel, Surroundings } from './panel.ts';
import { RunDrives } from './run-drives.ts';
import { RunSettings } from './run-settings.ts';
import { SerialConsole } from './serial-console.ts';
import type { ImageSession } from './session.ts';
import { failure } from './words.ts';

const TICK_MS = 250;
const LIGHT_MS = 120;

const STATE_WORDS: Record<MachineState, string> = {
  off: 'Off',
  starting: 'Starting…',
  running: 'Running',
  paused: 'Paused',
  still: 'Standing still…',
  stopping: 'Stopping…',
};

/** The one panel that goes from image to image, since there is one machine: it reads nothing that could come late. */
export class RunPanel {
  readonly #around: Surroundings;
  readonly #files: GuestFiles;
  readonly #settings: RunSettings;
  readonly #serial: SerialConsole;
  readonly #drives: RunDrives;
  readonly #start = deed('Start', 'run-start', 'play', () => void this.#boot(), { appearance: 'accent', variant: 'brand' });
  readonly #pause = deed('Pause', 'run-pause', 'pause', () => void this.#pauseOrResume());
  readonly #reset = deed('Reset', 'run-reset', 'reset', () => void this.#askReset());
  readonly #stop = deed('Stop', 'run-stop', 'stop', () => void this.#halt());
  readonly #save = deed('Save now', 'run-save', 'save', () => void this.#saveNow());
  readonly #light = element('span', { class: 'light', testId: 'run-light', attributes: { title: 'Lit while the disk works' } });
  readonly #state = element('strong', { testId: 'run-state' });
  readonly #read = element('span', { testId: 'run-read' });
  readonly #written = element('span', { testId: 'run-written' });
  readonly #saved = element('span', { class: 'saved', testId: 'run-saved' });
  readonly #other = element('p', { class: 'quiet', testId: 'run-other' });
  readonly #trouble = element('div', { testId: 'run-trouble', attributes: { role: 'alert' } });
  readonly #stage: HTMLElement;
  readonly element: HTMLElement;
  #session: ImageSession | undefined;
  #lightTimer: ReturnType<typeof setTimeout> | undefined;
  #shownProblem: unknown;

  constructor(around: Surroundings, files: GuestFiles) {
    this.#around = around;
    this.#files = files;
    const { machine } = around;
    this.#settings = new RunSettings(() => this.#update());
    this.#serial = new SerialConsole((text) => machine.type(text));
    this.#drives = new RunDrives((slot, session) => this.#try('The medium was not changed', () => machine.change(slot, session)));
    const controls = element('div', { class: 'row controls' }, this.#start, this.#pause, this.#reset, this.#stop, this.#save);
    const status = element('div', { class: 'status', testId: 'run-status' }, this.#light, this.#state, this.#read, this.#written, this.#saved);
    this.#stage = element('div', { class: 'stage' }, screenFrame(around), this.#serial.element);
    this.element = element(
      'div',
      { class: 'stack run' },
      files.element,
      this.#settings.element,
      this.#other,
      controls,
      this.#trouble,
      status,
      this.#stage,
      this.#drives.element,
    );
    files.changed.listen(() => this.#update());
    machine.changed.listen(() => this.#update());
    machine.serial.listen((byte) => this.#serial.receive(byte));
    machine.activity.listen(() => this.#flash());
    setInterval(() => this.#figures(), TICK_MS);
  }

  /** The tab of an image that is now the chosen one. */
  of({ session }: Chosen): Panel {
    this.#session = session;
    return { element: this.element, show: async () => this.#update() };
  }

  /** The images that the other drives may take. */
  offer(sessions: readonly ImageSession[]): void {
    this.#settings.offer(sessions);
    this.#update();
  }

  #update(): void {
    const { machine } = this.#around;
    const { state } = machine;
    const off = state === 'off';
    const mine = machine.image?.id === this.#session?.entry.id;
    if (this.#session !== undefined) this.#settings.choose(this.#session);
    const { boot } = this.#settings;
    this.#settings.element.hidden = !off;
    this.#start.hidden = !off && mine;
    this.#start.disabled = !off || !this.#files.ready(boot) || (this.#session?.elsewhere ?? true);
    for (const control of [this.#pause, this.#reset, this.#stop, this.#save]) {
      control.hidden = off || !mine || (control === this.#save && machine.temporary);
      control.disabled = state === 'stopping' || state === 'still' || (state === 'starting' && control !== this.#stop);
    }
    const goesOn = state === 'paused';
    const words = goesOn ? 'Resume' : 'Pause';
    if (this.#pause.textContent !== words) this.#pause.replaceChildren(icon(goesOn ? 'play' : 'pause', 'start'), words);
    this.#stage.hidden = off || !mine;
    this.#drives.element.hidden = off || !mine;
    this.#drives.update(machine.drives, this.#settings.images, state === 'running');
    this.#other.textContent = off || mine ? '' : `A machine is running on ${machine.image?.name ?? 'another image'}. One at a time: stop it first.`;
    this.#serial.setEnabled(state === 'running');
    this.#tellTrouble();
    this.#figures();
  }

  #figures(): void {
    const { machine } = this.#around;
    const { read, written } = machine.traffic;
    const { state, unsavedBytes } = machine;
    if (state !== 'off') this.#drives.count(machine.drives);
    this.#state.textContent = STATE_WORDS[state];
    this.#state.parentElement?.toggleAttribute('hidden', state === 'off' || machine.image?.id !== this.#session?.entry.id);
    this.#read.textContent = `${formatSize(read)} read`;
    this.#written.textContent = `${formatSize(written)} written`;
    const saved = unsavedBytes === 0 ? 'all saved' : `${formatSize(unsavedBytes)} not saved yet`;
    this.#saved.textContent = machine.temporary ? 'changes are thrown away at the end' : saved;
    this.#saved.dataset.unsaved = String(unsavedBytes > 0 || machine.temporary);
  }

  #flash(): void {
    if (this.#lightTimer !== undefined) return;
    this.#light.dataset.busy = 'true';
    this.#lightTimer = setTimeout(() => {
      this.#light.dataset.busy = 'false';
      this.#lightTimer = undefined;
    }, LIGHT_MS);
  }

  /** The machine paused by itself: why, and what can be done. */
  #tellTrouble(): void {
    const { machine } = this.#around;
    if (machine.problem === this.#shownProblem) return;
    this.#shownProblem = machine.problem;
    if (machine.problem === undefined) return this.#trouble.replaceChildren();
    const words = element(
      'div',
      { class: 'message-words' },
      element('strong', {}, 'The machine is paused: its disk failed'),
      element('span', {}, `${failure(machine.problem)} What the guest wrote is still in memory.`),
    );
    const retry = button('Try again', { testId: 'trouble-retry', press: () => void this.#try('The disk still fails', () => machine.resume()) });
    const abandon = button('Stop without saving', {
      testId: 'trouble-abandon',
      attributes: { variant: 'danger' },
      press: () => void this.#abandon(),
    });
    const row = element('div', { class: 'message-row' }, words, element('div', { class: 'row' }, retry, abandon));
    this.#trouble.replaceChildren(element('wa-callout', { attributes: { variant: 'danger', size: 's' } }, icon('warning', 'icon'), row));
  }

  async #boot(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    this.#serial.clear();
    await this.#try('The machine did not start', () => this.#around.machine.start(this.#settings.read(session)));
  }

  async #pauseOrResume(): Promise<void> {
    const { machine } = this.#around;
    await this.#try('That did not work', () => (machine.state === 'paused' ? machine.resume() : machine.pause()));
  }

  async #askReset(): Promise<void> {
    const text = 'The guest starts over as if its reset button were pressed. What it had not yet written to its disk is lost.';
    if (await confirmed({ title: 'Reset the machine?', text, deed: 'Reset', danger: true })) this.#around.machine.reset();
  }

  async #halt(): Promise<void> {
    if (this.#around.machine.state === 'starting') return this.#around.machine.stop();
    const text = this.#around.machine.temporary
      ? 'Everything it wrote is thrown away: its disks are then as they were before it started.'
      : 'This is like pulling the plug: shut the guest down or run “sync” in it first. Everything it wrote to its disk is kept.';
    if (!(await confirmed({ title: 'Stop the machine?', text, deed: 'Stop' }))) return;
    await this.#try('The machine could not be stopped', () => this.#around.machine.stop());
  }

  async #abandon(): Promise<void> {
    const text = 'What the guest wrote since the last save is lost. The image stays as it was then.';
    if (!(await confirmed({ title: 'Stop without saving?', text, deed: 'Stop without saving', danger: true }))) return;
    await this.#try('The machine could not be stopped', () => this.#around.machine.stop({ abandon: true }));
  }

  async #saveNow(): Promise<void> {
    this.#save.loading = true;
    await this.#try('The disk was not saved', () => this.#around.machine.save());
    this.#save.loading = false;
  }

  async #try(problem: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#around.messages.error(problem, error);
    }
  }
}

function deed(
  label: string,
  testId: string,
  sign: string,
  press: () => void,
  attributes: Record<string, string> = {},
): HTMLElementTagNameMap['wa-button'] {
  return button(label, { testId, icon: sign, attributes, press });
}

/** The screen: it takes keys and mouse while it has the focus, and Ctrl+Alt+G gives them back. */
function screenFrame({ machine }: Surroundings): HTMLElement {
  const { screen } = machine;
  screen.addEventListener('focus', () => machine.capture(true));
  screen.addEventListener('blur', () => machine.capture(false));
  screen.addEventListener(
    'keydown',
    (event) => {
      if (!(event.ctrlKey && event.altKey && event.code === 'KeyG')) return;
      event.stopPropagation();
      event.preventDefault();
      focusAfter(screen);
    },
    { capture: true },
  );
  const hint = element('p', { class: 'quiet' }, 'Click the screen to type into the guest; Ctrl+Alt+G gives the keyboard back.');
  return element('section', { class: 'screen-frame' }, element('h3', {}, 'Screen'), screen, hint);
}
