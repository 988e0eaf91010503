/**
 * The Allocation map tab: the whole disk in a fixed number of buckets on a canvas. Pointing at a cell, or moving over them with
 * the arrow keys, shows its offsets and contents; a table shows the same in numbers. Resizing only regroups the buckets. Cells with
 * clusters that changed (map-since.ts: since when) have a bar along their lower edge.
 */
import { formatSize, type MapSummary } from '../index.ts';
import { button, element } from './dom.ts';
import { Looking } from './looking.ts';
import { type Cell, cellsOf, STATE_NAMES, STATES, stretches, sum, total } from './map-model.ts';
import { MapSince } from './map-since.ts';
import type { Chosen, Panel } from './panel.ts';
import { THEME_CHANGE } from './theme.ts';
import { count, hex, share, sizeWithBytes } from './words.ts';

const BUCKETS = 2048;
/** Pixels, at least; cells are made wider so that they fill the row. */
const CELL_WIDTH = 16;
const CELL_HEIGHT = 16;
const GAP = 2;
/** Height of the bar that marks changes. */
const BAR = 4;
const ROWS = 16;

export class MapPanel implements Panel {
  readonly #canvas = element('canvas', { testId: 'map-canvas', class: 'map-canvas', attributes: { tabindex: 0, role: 'img' } });
  readonly #readout = element('p', { class: 'readout', testId: 'map-readout', attributes: { 'aria-live': 'polite' } });
  readonly #totals = element('tbody', { testId: 'map-totals' });
  readonly #metadata = element('tbody', { testId: 'map-metadata' });
  readonly #refresh = button('Read again', { testId: 'map-refresh', icon: 'reset', press: () => void this.#again() });
  readonly #since = new MapSince(() => void this.show().catch(() => undefined));
  readonly #looking = new Looking('map', 'Reading the map…');
  readonly #frame = element('div', { class: 'map-frame' }, this.#canvas);
  readonly element = element(
    'div',
    { class: 'stack' },
    this.#looking.element,
    this.#frame,
    this.#readout,
    element('div', { class: 'pair tables' }, table('On the disk', this.#totals), table('Metadata of the image', this.#metadata)),
    element('div', { class: 'row end-aligned' }, this.#since.element, this.#refresh),
  );
  readonly #chosen: Chosen;
  #summary: MapSummary | undefined;
  #size = 0;
  #cells: Cell[] = [];
  #columns = 1;
  /** Pixels from one cell to the next. */
  #pitch = CELL_WIDTH + GAP;
  #cursor: number | undefined;

  constructor(chosen: Chosen) {
    this.#chosen = chosen;
    this.#canvas.addEventListener('pointermove', (event) => this.#point(this.#cellAt(event)));
    this.#canvas.addEventListener('pointerleave', () => this.#point(undefined));
    this.#canvas.addEventListener('blur', () => this.#point(undefined));
    this.#canvas.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener(THEME_CHANGE, () => this.#draw(), { signal: chosen.left });
    new ResizeObserver(() => this.#draw()).observe(this.#frame);
  }

  async show(): Promise<void> {
    const { session, left } = this.#chosen;
    const found = await this.#looking.run(left, (job) =>
      session.use(async (disk) => ({ summary: await this.#since.summary(session, disk, BUCKETS, job), size: disk.size })),
    );
    if (found === undefined) {
      if (this.#summary === undefined) this.#readout.textContent = 'The map was not read to its end: “Read again” begins anew.';
      return;
    }
    this.#summary = found.summary;
    this.#size = found.size;
    this.#tell(session.entry.name);
    this.#draw();
  }

  async #again(): Promise<void> {
    this.#refresh.loading = true;
    await this.#chosen.session.refresh().catch(() => undefined);
    this.#refresh.loading = false;
  }

  /** Shows the tables, and the picture's description. */
  #tell(name: string): void {
    const summary = this.#summary;
    if (summary === undefined) return;
    const all = sum(summary.buckets);
    const styled = STATES.filter((state) => all[state] > 0 || state !== 'compressed');
    this.#totals.replaceChildren(...styled.map((state) => row(state, STATE_NAMES[state], all[state], share(all[state], this.#size))));
    const changed = summary.changed && total(summary.changed);
    if (changed !== undefined) {
      const added = row('changed', this.#since.words, changed, share(changed, this.#size));
      added.dataset.testid = 'map-changed';
      this.#totals.append(added);
    }
    const bytes = total(summary.metadata.map(({ length }) => length));
    const kinds = [...summary.metadata].sort((one, other) => other.length - one.length);
    this.#metadata.replaceChildren(
      ...(kinds.length === 0
        ? [element('tr', {}, element('td', { attributes: { colspan: 3 } }, 'none: a raw image is nothing but data'))]
        : kinds.map(({ what, length }) => row('metadata', what, length, share(length, bytes)))),
    );
    const words = STATES.filter((state) => all[state] > 0).map((state) => `${formatSize(all[state])} ${STATE_NAMES[state]}`);
    if (changed !== undefined) words.push(`${formatSize(changed)} ${this.#since.words}`);
    this.#canvas.setAttribute('aria-label', `Allocation map of ${name}: ${words.join(', ')}. Arrow keys move over it.`);
  }

  #draw(): void {
    const width = this.#frame.clientWidth;
    if (this.#summary === undefined || width === 0) return;
    this.#columns = Math.max(1, Math.floor((width + GAP) / (CELL_WIDTH + GAP)));
    this.#pitch = (width + GAP) / this.#columns;
    this.#cells = cellsOf(this.#summary, this.#size, this.#columns * ROWS);
    const rows = Math.max(1, Math.ceil(this.#cells.length / this.#columns));
    const height = rows * (CELL_HEIGHT + GAP) - GAP;
    const scale = devicePixelRatio;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    this.#canvas.style.height = `${height}px`;
    const context = this.#canvas.getContext('2d');
    if (context === null) return;
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const colours = new Map(STATES.map((state) => [state, style.getPropertyValue(`--map-${state}`)]));
    for (const [index, cell] of this.#cells.entries()) {
      const { x, y, cellWidth } = this.#place(index);
      for (const { state, from, to } of stretches(cell.bytes, cellWidth)) {
        context.fillStyle = colours.get(state) ?? '';
        context.fillRect(x + from, y, to - from, CELL_HEIGHT);
      }
      if (cell.changed > 0) {
        context.fillStyle = style.getPropertyValue('--map-changed');
        context.fillRect(x, y + CELL_HEIGHT - BAR, cellWidth, BAR);
      }
      if (index !== this.#cursor) continue;
      context.lineWidth = 2;
      context.strokeStyle = style.getPropertyValue('--map-cursor');
      context.strokeRect(x + 1, y + 1, cellWidth - 2, CELL_HEIGHT - 2);
    }
    this.#say();
  }

  /** Whole pixels, so that edges are sharp. */
  #place(index: number): { x: number; y: number; cellWidth: number } {
    const column = index % this.#columns;
    const x = Math.round(column * this.#pitch);
    return { x, y: Math.floor(index / this.#columns) * (CELL_HEIGHT + GAP), cellWidth: Math.round((column + 1) * this.#pitch) - x - GAP };
  }

  #cellAt(event: PointerEvent): number | undefined {
    const column = Math.floor(event.offsetX / this.#pitch);
    if (column >= this.#columns) return undefined;
    const index = Math.floor(event.offsetY / (CELL_HEIGHT + GAP)) * this.#columns + column;
    return index < this.#cells.length ? index : undefined;
  }

  #key(event: KeyboardEvent): void {
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns };
    const last = this.#cells.length - 1;
    const step = steps[event.key];
    const target = event.key === 'Home' ? 0 : event.key === 'End' ? last : step === undefined ? undefined : (this.#cursor ?? -step) + step;
    if (target === undefined) return;
    event.preventDefault();
    this.#point(Math.min(Math.max(target, 0), last));
  }

  #point(index: number | undefined): void {
    if (index === this.#cursor) return;
    this.#cursor = index;
    this.#draw();
  }

  #say(): void {
    const cell = this.#cursor === undefined ? undefined : this.#cells[this.#cursor];
    if (cell === undefined) {
      const each = this.#cells[0] === undefined ? 0 : this.#cells[0].end - this.#cells[0].start;
      this.#readout.textContent = `${count(this.#cells.length)} cells of ${formatSize(each)}. Point at one, or use the arrow keys, to see what it holds.`;
      return;
    }
    const length = cell.end - cell.start;
    const states = STATES.filter((state) => cell.bytes[state] > 0).map(
      (state) => `${STATE_NAMES[state]} ${formatSize(cell.bytes[state])} (${share(cell.bytes[state], length)})`,
    );
    if (cell.changed > 0) states.push(`${this.#since.words} ${formatSize(cell.changed)}`);
    this.#readout.textContent = `${formatSize(cell.start)} to ${formatSize(cell.end)}, ${hex(cell.start)}–${hex(cell.end - 1)}: ${states.join(', ')}`;
  }
}

function row(kind: string, name: string, bytes: number, part: string): HTMLElement {
  const key = element('span', { class: `key key-${kind}`, attributes: { 'aria-hidden': true } });
  const size = element('td', { class: 'number', attributes: { title: sizeWithBytes(bytes) } }, formatSize(bytes));
  return element('tr', {}, element('th', { attributes: { scope: 'row' } }, key, name), size, element('td', { class: 'number' }, part));
}

function table(caption: string, body: HTMLElement): HTMLElement {
  return element('table', { class: 'table legend' }, element('caption', {}, caption), body);
}
