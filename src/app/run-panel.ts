/**
 * The Run tab: settings of a machine with the chosen image in its first drive; and once it runs, its screen, its serial console, its
 * reads and writes, and whether these are saved.
 */
import { formatSize, type MachineDescription } from '../index.ts';
import { confirmed } from './dialogs.ts';
import { button, element, icon } from './dom.ts';
import { focusAfter } from './focus.ts';
import type { GuestFiles } from './guest-files.ts';
import type { MachineEnd, MachineState } from './machine.ts';
import type { Chosen, Panel, Surroundings } from './panel.ts';
import { RunDrives } from './run-drives.ts';
import { RunSettings } from './run-settings.ts';
import { SerialConsole } from './serial-console.ts';
import type { ImageSession } from './session.ts';
import { failure } from './words.ts';

const TICK_MS = 250;
const LIGHT_MS = 120;
/** Milliseconds after which the user can cut short a stop that is still under way. */
const PATIENCE_MS = 5000;

const STATE_WORDS: Record<MachineState, string> = {
  off: 'Off',
  starting: 'Starting…',
  running: 'Running',
  paused: 'Paused',
  still: 'Standing still…',
  restarting: 'Restarting…',
  stopping: 'Stopping…',
};

/** The one panel that all images share, since there is one machine: the facts it reads about an image are kept by image. */
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
  /** The report about the machine that is shown in place of its settings. */
  #shownTrouble: unknown;
  /** The time when the stop under way began. */
  #stopping: number | undefined;
  /** Whether the user was typing into the machine when it began to stop. */
  #typing = false;
  /** The reading of the chosen image's bytes. */
  #looking: Promise<void> = Promise.resolve();

  constructor(around: Surroundings, files: GuestFiles) {
    this.#around = around;
    this.#files = files;
    const { machine } = around;
    this.#settings = new RunSettings(
      () => this.#update(),
      () => files.ready('guest'),
    );
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
    machine.remarked.listen((remark) => this.#around.messages.warning('A drive of the machine', `${remark}.`));
    machine.serial.listen((byte) => this.#serial.receive(byte));
    machine.activity.listen(() => this.#flash());
    setInterval(() => this.#figures(), TICK_MS);
  }

  /** The tab of an image that is now the chosen one. */
  of({ session }: Chosen): Panel {
    this.#session = session;
    return {
      element: this.element,
      show: async () => {
        this.#update();
        this.#looking = this.#settings.look(session);
        await this.#looking;
      },
    };
  }

  /** Takes the settings that an appliance comes with. */
  suggest(machine: MachineDescription): void {
    this.#settings.suggest(machine);
  }

  /** The images that the other drives can take. */
  offer(sessions: readonly ImageSession[]): void {
    this.#settings.offer(sessions);
    this.#update();
  }

  #update(): void {
    const { machine } = this.#around;
    const { state } = machine;
    const off = state === 'off';
    const mine = machine.image?.id === this.#session?.entry.id;
    const ended = this.#ended !== undefined;
    if (this.#session !== undefined) this.#settings.choose(this.#session);
    const { boot } = this.#settings;
    this.#settings.element.hidden = !off;
    this.#start.hidden = !off && mine;
    this.#start.disabled = !off || !this.#files.ready(boot === 'guest' ? 'guest' : 'disk') || (this.#session?.elsewhere ?? true);
    for (const control of [this.#pause, this.#reset, this.#stop, this.#save]) {
      control.hidden = off || !mine || (control === this.#save && machine.temporary);
      control.disabled = state === 'stopping' || state === 'still' || ((state === 'starting' || state === 'restarting') && control !== this.#stop);
    }
    const goesOn = state === 'paused';
    const words = goesOn ? 'Resume' : 'Pause';
    if (this.#pause.textContent !== words) this.#pause.replaceChildren(icon(goesOn ? 'play' : 'pause', 'start'), words);
    this.#stage.hidden = !ended && (off || !mine);
    this.#drives.element.hidden = off || !mine;
    this.#drives.update(machine.drives, this.#settings.images, state === 'running');
    this.#other.textContent = off || mine ? '' : `A machine is running on ${machine.image?.name ?? 'another image'}. One at a time: stop it first.`;
    if (state === 'stopping' && this.#stage.contains(document.activeElement)) this.#typing = true;
    this.#serial.setEnabled(state === 'running');
    this.#figures();
    // The element with the keyboard's focus was removed when the guest switched off; the control next to it has nothing to do with the machine.
    if (off && this.#typing && !this.#start.disabled) {
      this.#typing = false;
      void this.#start.updateComplete.then(() => this.#start.focus());
    }
  }

  /** How the machine of the chosen image ended, if it ended by itself and no other was started since. */
  get #ended(): MachineEnd | undefined {
    const { end } = this.#around.machine;
    return end !== undefined && end.image?.id === this.#session?.entry.id ? end : undefined;
  }

  #figures(): void {
    const { machine } = this.#around;
    const { read, written } = machine.traffic;
    const { state, unsavedBytes } = machine;
    if (state !== 'off') this.#drives.count(machine.drives);
    this.#state.textContent = STATE_WORDS[state];
    const shown = state === 'off' ? this.#ended?.image : machine.image;
    this.#state.parentElement?.toggleAttribute('hidden', shown?.id !== this.#session?.entry.id);
    this.#tellTrouble();
    this.#read.textContent = `${formatSize(read)} read`;
    this.#written.textContent = `${formatSize(written)} written`;
    const saved = unsavedBytes === 0 ? 'all saved' : `${formatSize(unsavedBytes)} not saved yet`;
    // Bytes that were given up are not known to be saved.
    this.#saved.hidden = this.#ended?.how === 'left';
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

  /** Something that the machine did by itself, or does not do: the reason, and advice. */
  #tellTrouble(): void {
    const { machine } = this.#around;
    this.#stopping = machine.state === 'stopping' ? (this.#stopping ?? Date.now()) : undefined;
    const late = this.#stopping !== undefined && Date.now() - this.#stopping > PATIENCE_MS;
    const trouble = late ? 'late' : (machine.problem ?? this.#ended);
    if (trouble === this.#shownTrouble) return;
    this.#shownTrouble = trouble;
    if (late) this.#trouble.replaceChildren(this.#lateStop());
    else if (machine.problem !== undefined) this.#trouble.replaceChildren(this.#diskFailure(machine.problem));
    else if (this.#ended !== undefined) this.#trouble.replaceChildren(howItEnded(this.#ended));
    else this.#trouble.replaceChildren();
  }

  #diskFailure(problem: unknown): HTMLElement {
    const retry = button('Try again', {
      testId: 'trouble-retry',
      press: () => void this.#try('The disk still fails', () => this.#around.machine.resume()),
    });
    const text = `${failure(problem)} What the guest wrote is still in memory.`;
    return callout('danger', 'The machine is paused: its disk failed', text, retry, this.#abandonButton('Stop without saving'));
  }

  #lateStop(): HTMLElement {
    const { unsavedBytes } = this.#around.machine;
    const text =
      unsavedBytes > 0
        ? `${formatSize(unsavedBytes)} that the guest wrote are not saved yet. It may still come to an end by itself.`
        : 'Everything that the guest wrote is saved, but the disk is not closed yet.';
    return callout('warning', 'The disk takes long to answer', text, this.#abandonButton(unsavedBytes > 0 ? 'Stop without saving' : 'Do not wait'));
  }

  #abandonButton(label: string): HTMLElement {
    return button(label, { testId: 'trouble-abandon', attributes: { variant: 'danger' }, press: () => void this.#abandon() });
  }

  async #boot(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    this.#serial.clear();
    const started = async (): Promise<void> => {
      // The boot choice follows from the image's bytes; if they cannot be read, opening the image for the machine throws the reason.
      await this.#looking.catch(() => undefined);
      const { machine } = this.#around;
      if (machine.state === 'off') await machine.start(this.#settings.read(session));
    };
    await this.#try('The machine did not start', started, () => void this.#boot());
  }

  async #pauseOrResume(): Promise<void> {
    const { machine } = this.#around;
    await this.#try('That did not work', () => (machine.state === 'paused' ? machine.resume() : machine.pause()));
  }

  async #askReset(): Promise<void> {
    const text = 'The guest starts over as if its reset button were pressed. What it had not yet written to its disk is lost.';
    if (await confirmed({ title: 'Reset the machine?', text, deed: 'Reset', danger: true }))
      await this.#try('The machine was not reset', () => this.#around.machine.reset());
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
    if (
      this.#around.machine.unsavedBytes > 0 &&
      !(await confirmed({ title: 'Stop without saving?', text, deed: 'Stop without saving', danger: true }))
    )
      return;
    await this.#try('The machine could not be stopped', () => this.#around.machine.stop({ abandon: true }));
  }

  async #saveNow(): Promise<void> {
    this.#save.loading = true;
    await this.#try('The disk was not saved', () => this.#around.machine.save());
    this.#save.loading = false;
  }

  async #try(problem: string, work: () => Promise<void>, again?: () => void): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#around.messages.error(problem, error, again);
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

function callout(variant: string, title: string, text: string, ...deeds: HTMLElement[]): HTMLElement {
  const words = element('div', { class: 'message-words' }, element('strong', {}, title), element('span', {}, text));
  const row = element('div', { class: 'message-row' }, words, element('div', { class: 'row' }, ...deeds));
  return element('wa-callout', { attributes: { variant, size: 's' } }, icon(variant === 'neutral' ? 'info' : 'warning', 'icon'), row);
}

function howItEnded({ how, error, temporary }: MachineEnd): HTMLElement {
  if (how === 'left')
    return callout(
      'warning',
      'The machine is off, but its disk is not closed',
      'The browser does not answer. If the image stays in use, reload this page: what was saved is kept.',
    );
  const kept = temporary ? 'What it wrote was thrown away, as you chose.' : 'Everything it wrote to its disks is saved.';
  if (how === 'halt')
    return callout('neutral', 'The guest has switched the machine off', `${kept} Start it again, take a snapshot of the disk, or export it.`);
  return callout('danger', 'The machine has crashed', `${crashWords(error)} ${kept} Start it again, or look at the disk first.`);
}

/** v86's processor ends in a trap where a PC would restart itself: WebAssembly gives no other reason. */
function crashWords(error: unknown): string {
  if (!(error instanceof WebAssembly.RuntimeError)) return failure(error);
  return `The guest brought its processor into a state that it cannot go on from (${error.message}).`;
}

/** The screen: it gets keys and mouse while it has the focus, and Ctrl+Alt+G releases them. */
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
