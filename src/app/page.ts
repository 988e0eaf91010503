/**
 * The whole page: the images on the left, the chosen one on the right, and the connections between them. The address names the chosen
 * image (`#image=<id>`), so a reload or a bookmark comes back to it.
 */
import { type Engine, type FormatFacts, type ImageEntry, OVERLAY_FORMAT, type StorageReport } from '../index.ts';
import { createImage } from './create-dialog.ts';
import { asked, confirmed } from './dialogs.ts';
import { button, element, icon } from './dom.ts';
import { dropAnywhere } from './drop.ts';
import type { StartedEngine } from './engine.ts';
import { type ExportWay, exportImage, mayLeave } from './export.ts';
import { askIncrement } from './export-changes.ts';
import { GeometryPanel } from './geometry.ts';
import { GuestFiles } from './guest-files.ts';
import { type ImageActions, ImageView } from './image-view.ts';
import { ImagesList } from './images-list.ts';
import { filePicker, Importer } from './import.ts';
import { JobsList } from './jobs-list.ts';
import { LacksNotice, lacksOf } from './lacks.ts';
import { Machine } from './machine.ts';
import { MapPanel } from './map-view.ts';
import { Messages } from './messages.ts';
import { OverviewPanel } from './overview.ts';
import type { Chosen, PanelKind, Surroundings } from './panel.ts';
import { askPassword } from './password.ts';
import { RunPanel } from './run-panel.ts';
import { type ImageSession, Sessions } from './session.ts';
import { SnapshotsPanel } from './snapshots.ts';
import { StorageBar } from './storage-bar.ts';
import { themeButton } from './theme.ts';
import { isKeyProblem } from './words.ts';

const FOLLOW_MS = 2000;

export class Page {
  readonly #engine: Engine;
  readonly #formats: readonly FormatFacts[];
  readonly #messages: Messages;
  readonly #jobs = new JobsList();
  readonly #sessions: Sessions;
  readonly #machine: Machine;
  readonly #files = new GuestFiles();
  readonly #storage: StorageBar;
  readonly #list = new ImagesList((id) => this.#choose(id));
  readonly #main = element('main', { class: 'main' });
  readonly #empty = emptyState(
    () => void this.#create(),
    () => this.#picker.click(),
  );
  readonly #importer: Importer;
  readonly #picker = filePicker((dropped) => this.#importer.take(dropped));
  readonly #run: RunPanel;
  readonly #panels: readonly PanelKind[];
  readonly #actions: ImageActions;
  /** Of the chosen image. */
  #view: ImageView | undefined;
  /** The image that the address names, if it does not exist. */
  readonly #gone = element('wa-callout', { testId: 'image-gone', attributes: { variant: 'warning', size: 's', hidden: true } });
  #entries: readonly ImageEntry[] = [];
  #report: StorageReport | undefined;
  #refreshing: Promise<void> | undefined;
  #again = false;
  #later: ReturnType<typeof setTimeout> | undefined;
  #watching: ReturnType<typeof setTimeout> | undefined;
  /** Requests of other tabs on the screen, by image: each a function that takes it away. */
  readonly #requests = new Map<string, () => void>();

  readonly #lacks = new LacksNotice();
  readonly #here: boolean;

  constructor({ engine, here, formats }: StartedEngine, messages: Messages) {
    this.#engine = engine;
    this.#formats = formats;
    this.#here = here;
    this.#messages = messages;
    this.#sessions = new Sessions(engine, askPassword, (session) => this.#lost(session));
    const screen = element('div', {
      class: 'screen',
      testId: 'screen',
      attributes: { tabindex: 0, role: 'application', 'aria-label': 'Screen of the machine' },
    });
    this.#machine = new Machine(this.#files, screen);
    this.#storage = new StorageBar(() => void this.#persist());
    this.#importer = new Importer({
      library: engine.library,
      jobs: this.#jobs,
      messages,
      shown: () => this.#chosen,
      machine: (described) => this.#run.suggest(described),
      imported: (entry) => void this.#refresh().then(() => this.#machine.state === 'off' && this.#choose(entry.id)),
    });
    const around: Surroundings = {
      messages,
      jobs: this.#jobs,
      machine: this.#machine,
      find: (id) => this.#session(id),
      library: engine.library,
      choose: (entry) => void this.#refresh().then(() => this.#choose(entry.id)),
    };
    this.#run = new RunPanel(around, this.#files);
    this.#panels = [
      { name: 'overview', title: 'Overview', make: (chosen) => new OverviewPanel(around, chosen) },
      { name: 'snapshots', title: 'Snapshots', make: (chosen) => new SnapshotsPanel(around, chosen) },
      { name: 'geometry', title: 'Geometry', make: (chosen) => new GeometryPanel(chosen) },
      { name: 'map', title: 'Allocation map', make: (chosen) => new MapPanel(chosen) },
      { name: 'run', title: 'Run', make: (chosen) => this.#run.of(chosen) },
    ];
    this.#actions = {
      formats,
      export: (image, way) => void this.#export(image, way),
      rename: (image) => void this.#rename(image),
      delete: (image) => void this.#delete(image),
      ask: (entry) => engine.requestRelease(entry.id),
      openTab: 'overview',
    };
  }

  /** Puts everything into the document and reads the library. */
  async start(): Promise<void> {
    const create = button('New image', {
      testId: 'create',
      icon: 'plus',
      attributes: { appearance: 'accent', variant: 'brand' },
      press: () => void this.#create(),
    });
    const bring = button('Import', { testId: 'import', icon: 'import', press: () => this.#picker.click() });
    const side = element(
      'aside',
      { class: 'side', attributes: { 'aria-label': 'Images' } },
      element('div', { class: 'side-head' }, element('h2', {}, 'Images'), element('div', { class: 'row' }, create, bring)),
      this.#list.element,
      this.#jobs.element,
      element('p', { class: 'quiet hint' }, 'Drop disk images anywhere on this page to import them: all files of a disk together, or its folder.'),
    );
    this.#gone.append(
      icon('warning', 'icon'),
      'The image that this address names is not in this browser: it was deleted, perhaps in another tab, or it was made in another browser.',
    );
    this.#main.append(this.#gone, this.#empty);
    const columns = element('div', { class: 'columns' }, side, this.#main);
    document.body.append(header(this.#storage.element), this.#lacks.element, columns, this.#picker, this.#messages.element);
    document.body.append(dropAnywhere((dropped) => this.#importer.take(dropped)));
    this.#engine.library.onChange(() => void this.#refresh());
    this.#engine.onReleaseRequest((id) => this.#asked(id));
    this.#machine.changed.listen(() => {
      this.#showList();
      if (this.#machine.state === 'off') this.#forgetRequests();
    });
    this.#machine.saved.listen(() => this.#soon());
    this.#sessions.changed.listen(() => this.#soon());
    window.addEventListener('hashchange', () => this.#show());
    this.#mindTheTab();
    await Promise.all([this.#files.look(), this.#refresh()]);
  }

  /** If messages do not reach other tabs, the list is read anew when the user comes back; for images in memory the browser asks before the page is left. */
  #mindTheTab(): void {
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible' && this.#report?.lacks.includes('broadcast-channel')) void this.#refresh();
    });
    window.addEventListener('beforeunload', (event) => {
      if (this.#entries.some(({ place }) => place === 'memory')) event.preventDefault();
    });
  }

  get #chosen(): string | undefined {
    return new URLSearchParams(location.hash.slice(1)).get('image') ?? undefined;
  }

  #session(id: string): ImageSession | undefined {
    const entry = this.#entries.find((candidate) => candidate.id === id);
    return entry && this.#sessions.of(entry);
  }

  #choose(id: string | undefined): void {
    const hash = id === undefined ? '' : `#image=${encodeURIComponent(id)}`;
    if (location.hash === hash) return this.#show();
    history.pushState(undefined, '', hash === '' ? location.pathname + location.search : hash);
    this.#show();
  }

  /** Reads the library anew; further calls during a reading share one more reading. */
  async #refresh(): Promise<void> {
    if (this.#refreshing !== undefined) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#refreshing = this.#read();
    try {
      await this.#refreshing;
    } catch (error) {
      this.#messages.error('The images of this browser could not be listed', error);
    }
    this.#refreshing = undefined;
    if (!this.#again) return;
    this.#again = false;
    await this.#refresh();
  }

  /** Sizes change with every save of a running machine, and with every other change of an image: the list follows after a short while. */
  #soon(): void {
    this.#later ??= setTimeout(() => {
      this.#later = undefined;
      void this.#refresh();
    }, FOLLOW_MS);
  }

  async #read(): Promise<void> {
    this.#entries = await this.#engine.library.list();
    this.#report = await this.#engine.library.storage();
    this.#lacks.show(lacksOf(this.#report, this.#here));
    this.#empty.classList.toggle('keeps-nothing', this.#report.places.includes('memory'));
    this.#storage.show(
      this.#report,
      this.#entries.reduce((total, { storedSize }) => total + storedSize, 0),
    );
    this.#sessions.update(this.#entries);
    this.#show();
    this.#watch();
  }

  /** A tab that writes, dies, or is reloaded does not report sizes, or that its images are free: this tab checks while any is in use elsewhere. */
  #watch(): void {
    if (this.#watching !== undefined || !this.#entries.some((entry) => this.#sessions.of(entry).elsewhere)) return;
    const uses = (entries: readonly ImageEntry[]): string => JSON.stringify(entries.map(({ id, inUse, storedSize }) => [id, inUse, storedSize]));
    this.#watching = setTimeout(async () => {
      const entries = await this.#engine.library.list().catch(() => this.#entries);
      this.#watching = undefined;
      if (uses(entries) === uses(this.#entries)) this.#watch();
      else await this.#refresh();
    }, FOLLOW_MS);
  }

  #show(): void {
    const entry = this.#entries.find(({ id }) => id === this.#chosen) ?? undefined;
    this.#run.offer(this.#entries.map((other) => this.#sessions.of(other)));
    this.#showList();
    this.#showImage(entry && this.#sessions.of(entry));
    this.#empty.hidden = entry !== undefined;
    this.#gone.hidden = entry !== undefined || this.#chosen === undefined;
    document.title = entry === undefined ? 'tabdisk' : `${entry.name} – tabdisk`;
  }

  #showImage(session: ImageSession | undefined): void {
    if (session === this.#view?.session) return this.#view?.update();
    this.#view?.leave();
    this.#view = session && new ImageView(session, this.#panels, this.#messages, this.#actions);
    if (this.#view !== undefined) this.#main.append(this.#view.element);
  }

  #showList(): void {
    this.#list.show(this.#entries, this.#chosen, this.#machine.image?.id);
  }

  async #create(): Promise<void> {
    const places = this.#report?.places ?? [];
    const created = await createImage(
      this.#engine.library,
      this.#formats,
      places,
      this.#entries.map(({ name }) => name),
    );
    if (created === undefined) return;
    if (created.password !== undefined) this.#sessions.of(created.entry).remember(created.password);
    await this.#refresh();
    this.#choose(created.entry.id);
  }

  async #export({ session, left }: Pick<Chosen, 'session' | 'left'>, { options }: Pick<ExportWay, 'options'>): Promise<void> {
    const { entry } = session;
    try {
      const formats = this.#formats;
      const increment = options.since ? await askIncrement({ session, left }, formats) : undefined;
      if (options.since && increment === undefined) return;
      const to = formats.find(({ name }) => name === options.format);
      if (!(await mayLeave(entry, to, left))) return;
      // An unchanged export needs no password, unless an image below must be read for it: then this one is open.
      const asIs = options.format === entry.format && !options.compressed && !options.since;
      const secret = asIs && !session.unlocked ? undefined : await session.password();
      const around = { library: this.#engine.library, formats, jobs: this.#jobs, messages: this.#messages };
      await exportImage(entry, { compressed: false, ...options, ...increment, ...(secret === undefined ? {} : { secret }) }, around);
    } catch (error) {
      if (!isKeyProblem(error)) this.#messages.error(`${entry.name} was not exported`, error);
    }
  }

  /** The browser has removed an image that is open here. */
  #lost(session: ImageSession): void {
    const { name, format } = session.entry;
    const own = this.#formats.find((one) => one.name === format);
    // The rest of it becomes a new image, and may not be encrypted already.
    const to = own?.capabilities.create && !own.encryption?.always ? format : OVERLAY_FORMAT;
    const image = { session, left: new AbortController().signal };
    const takeAway = this.#messages.request(
      `${name} is no longer in this browser`,
      'The data of this site was cleared while the image was open. Nothing more can be saved in it, but what it holds can still be exported, as long as it is open here: until you stop the machine, choose another image or close the page.',
      'Export',
      () => void this.#export(image, { options: { format: to } }),
    );
    const stopListening = session.closed.listen(() => {
      takeAway();
      stopListening();
    });
  }

  async #rename({ session, left }: Chosen): Promise<void> {
    const { entry } = session;
    const name = await asked({ title: 'Rename the image', label: 'Name', value: entry.name, deed: 'Rename', left });
    if (name === undefined || name === entry.name) return;
    try {
      await this.#engine.library.rename(entry.id, name);
      await this.#refresh();
    } catch (error) {
      this.#messages.error(`${entry.name} was not renamed`, error);
    }
  }

  async #delete({ session, left }: Chosen): Promise<void> {
    const { entry } = session;
    const text = `“${entry.name}” and everything on it is removed from this browser. There is no way back: export it first if it matters.`;
    if (!(await confirmed({ title: 'Delete this image?', text, deed: 'Delete', danger: true, left }))) return;
    try {
      await session.close();
      await this.#engine.library.delete(entry.id);
      this.#messages.success(`${entry.name} is deleted`);
      if (this.#chosen === entry.id) this.#choose(undefined);
      await this.#refresh();
    } catch (error) {
      this.#messages.error(`${entry.name} was not deleted`, error);
    }
  }

  /** Another tab wants an image. A short use here ends by itself; a machine is stopped only if the user says so. */
  #asked(id: string): void {
    const entry = this.#entries.find((candidate) => candidate.id === id);
    if (entry === undefined || !this.#sessions.of(entry).held) return;
    this.#requests.get(id)?.();
    const fate = this.#machine.temporary ? 'and what it wrote is thrown away' : 'after what it wrote is saved';
    const text = `If you let go, the machine here stops, ${fate}. Without your consent nothing happens.`;
    this.#requests.set(
      id,
      this.#messages.request(`Another tab asks for ${entry.name}`, text, 'Let go', () => void this.#letGo(entry)),
    );
  }

  async #letGo(entry: ImageEntry): Promise<void> {
    this.#requests.get(entry.id)?.();
    try {
      const { temporary } = this.#machine;
      await this.#machine.stop();
      this.#messages.success(`${entry.name} is free for the other tab`, temporary ? undefined : 'Everything the machine wrote is saved.');
    } catch (error) {
      this.#messages.error(`${entry.name} was not let go`, error);
    }
  }

  #forgetRequests(): void {
    for (const takeAway of this.#requests.values()) takeAway();
    this.#requests.clear();
  }

  async #persist(): Promise<void> {
    const granted = await this.#engine.library.persist().catch(() => false);
    if (granted) this.#messages.success('Your disks are kept', 'The browser will not clear them by itself.');
    else
      this.#messages.warning(
        'The browser did not promise to keep your disks',
        'It decides by itself: a bookmark or installing the page may help. Export the images that matter to you.',
      );
    await this.#refresh();
  }
}

function header(storage: HTMLElement): HTMLElement {
  const brand = element(
    'div',
    { class: 'brand' },
    icon('disk'),
    element('h1', {}, 'tabdisk'),
    element('span', { class: 'quiet tagline' }, 'PC disks that live in this browser'),
  );
  return element('header', { class: 'header' }, brand, storage, themeButton());
}

function emptyState(create: () => void, bring: () => void): HTMLElement {
  const steps = [
    'Make a disk, or bring one from a desktop virtual machine.',
    'Run a PC on it, right here in the tab.',
    ['Take a snapshot, break things, go back. ', element('span', { class: 'kept', testId: 'kept' }, 'Reload: it is all still there.')],
    'Export it and open it in QEMU.',
  ];
  return element(
    'section',
    { class: 'empty', testId: 'empty' },
    icon('disk'),
    element('h2', {}, 'Choose an image, or make the first one'),
    element('ol', {}, ...steps.map((step) => element('li', {}, ...[step].flat()))),
    element(
      'div',
      { class: 'row' },
      button('New image', { testId: 'empty-create', icon: 'plus', attributes: { size: 'm', appearance: 'accent', variant: 'brand' }, press: create }),
      button('Import a file', { testId: 'empty-import', icon: 'import', attributes: { size: 'm' }, press: bring }),
    ),
    element('p', { class: 'quiet' }, 'Everything stays on this computer. Nothing is uploaded.'),
  );
}
