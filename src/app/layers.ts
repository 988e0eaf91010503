/**
 * The images below an image, in the Overview tab: making an overlay of it, committing an overlay into the image below, making it stand alone. The two
 * jobs go on beside a machine that runs on the image; the list of jobs has buttons to pause and to cancel them.
 */
import type { JobOptions, RemoteDisk } from '../index.ts';
import { asked, confirmed, LONGEST_NAME } from './dialogs.ts';
import { button, element } from './dom.ts';
import type { Chosen, Surroundings } from './panel.ts';
import type { ImageSession } from './session.ts';
import { isAbort } from './words.ts';

/** Images in which a job of this section runs, also while the page shows another image. */
const busy = new WeakSet<ImageSession>();

export class LayersSection {
  readonly #remark = element('p', { class: 'quiet', testId: 'layers-remark' });
  readonly #overlay = button('New overlay', { testId: 'overlay', icon: 'plus', press: () => void this.#makeOverlay() });
  readonly #commit = button('Commit', { testId: 'commit', press: () => void this.#askCommit() });
  readonly #stream = button('Make it stand alone', { testId: 'stream', press: () => void this.#bringUp() });
  readonly element = element(
    'section',
    { class: 'stack tight' },
    element('h3', {}, 'Layers'),
    this.#remark,
    element('div', { class: 'row' }, this.#overlay, this.#commit, this.#stream),
  );
  readonly #around: Surroundings;
  readonly #chosen: Chosen;

  constructor(around: Surroundings, chosen: Chosen) {
    this.#around = around;
    this.#chosen = chosen;
  }

  show(): void {
    const { session } = this.#chosen;
    const { backing, encrypted } = session.entry;
    const blocked = busy.has(session) || session.elsewhere;
    this.#overlay.disabled = blocked || session.held || encrypted;
    this.#commit.hidden = this.#stream.hidden = backing === undefined;
    this.#commit.disabled = this.#stream.disabled = blocked;
    this.#remark.textContent =
      backing === undefined
        ? 'An overlay reads as this image does and takes all changes, while this one stays as it is: for trying things out, or several disks over one installation.'
        : `This image lies over “${this.#nameOf(backing)}” and holds only what differs from it. Committing copies that into it and empties this one; standing alone takes a copy of the rest.`;
  }

  #nameOf(id: string): string {
    return this.#around.find(id)?.entry.name ?? id;
  }

  async #makeOverlay(): Promise<void> {
    const { session, left, messages } = this.#chosen;
    const { id, name } = session.entry;
    const taken = (await this.#around.library.list()).map((entry) => entry.name);
    const value = overlayName(name, taken);
    const wanted = await asked({ title: `An overlay over ${name}`, label: 'Name', value, deed: 'Make it', left });
    if (wanted === undefined) return;
    try {
      await session.close();
      const entry = await this.#around.library.overlay(id, { name: wanted });
      if (!left.aborted) this.#around.choose(entry);
    } catch (error) {
      messages.error('The overlay was not made', error);
    }
  }

  async #askCommit(): Promise<void> {
    const { session, left } = this.#chosen;
    const below = this.#nameOf(session.entry.backing ?? '');
    const text = `What differs is written into “${below}”, which then reads as this image does now. This image is empty afterwards and lies over it as before.`;
    if (!(await confirmed({ title: `Commit into ${below}?`, text, deed: 'Commit', left }))) return;
    const { name } = session.entry;
    await this.#run({ title: `Committing ${name}`, done: `${name} is committed into ${below}`, problem: `${name} was not committed` }, (disk, job) =>
      disk.commit(job),
    );
  }

  async #bringUp(): Promise<void> {
    const { name } = this.#chosen.session.entry;
    const words = { title: `Bringing up what is below ${name}`, done: `${name} stands alone`, problem: `${name} does not stand alone` };
    await this.#run(words, (disk, job) => disk.stream(job));
  }

  /** Holds the image as long as the job takes; other users may go on with it. */
  async #run(
    { title, done, problem }: { readonly title: string; readonly done: string; readonly problem: string },
    work: (disk: RemoteDisk, job: JobOptions) => Promise<void>,
  ): Promise<void> {
    const { jobs, messages } = this.#around;
    const { session } = this.#chosen;
    busy.add(session);
    try {
      const disk = await session.hold();
      try {
        await jobs.run(title, (job) => work(disk, job), { pausable: true });
      } finally {
        busy.delete(session);
        await session.release();
      }
      messages.success(done);
    } catch (error) {
      if (!isAbort(error)) messages.error(problem, error);
    }
    busy.delete(session);
    this.show();
  }
}

/** A name that no image has. */
function overlayName(name: string, taken: readonly string[]): string {
  for (let number = 1; ; number++) {
    const ending = number === 1 ? ' overlay' : ` overlay ${number}`;
    const candidate = name.slice(0, LONGEST_NAME - ending.length) + ending;
    if (!taken.includes(candidate)) return candidate;
  }
}
