/** The Geometry tab: cylinders, heads and sectors, their source, and the size of the image as the emulator will see it. */
import type { GeometryReport } from '../index.ts';
import { element, facts } from './dom.ts';
import type { Chosen, Panel } from './panel.ts';
import { count } from './words.ts';

type Chs = GeometryReport['chs'];

const TRANSLATIONS: Record<GeometryReport['translation'], string> = {
  auto: 'left to the BIOS',
  none: 'none: the BIOS uses these values as they are',
  lba: 'LBA: the BIOS addresses sectors by number',
  large: 'large: the BIOS halves cylinders and doubles heads',
  rechs: 'revised large: 15 heads first, then as large',
};
const SOURCES: Record<GeometryReport['source'], string> = {
  hint: 'asked for by whoever opened the image',
  'partition-table': 'read from the partition table of the disk',
  default: 'worked out from the size: the disk has no partition table to go by',
};
const DRIVES: Record<'144' | '288' | '120', string> = { '144': '3½-inch, 1.44 MB', '288': '3½-inch, 2.88 MB', '120': '5¼-inch, 1.2 MB' };

export class GeometryPanel implements Panel {
  readonly element = element('div', { class: 'stack' });
  readonly #chosen: Chosen;

  constructor(chosen: Chosen) {
    this.#chosen = chosen;
  }

  async show(): Promise<void> {
    const report = await this.#chosen.session.use((disk) => disk.geometry());
    const { floppy } = report;
    this.element.replaceChildren(
      facts(
        [
          ['Total sectors', `${count(report.totalSectors)} of 512 bytes`, 'geometry-sectors'],
          ['Cylinders × heads × sectors', words(report.chs), 'geometry-chs'],
          ["In the image's header", report.header === undefined ? 'nothing is stated' : words(report.header), 'geometry-header'],
          ['Translation', TRANSLATIONS[report.translation], 'geometry-translation'],
          ['Where this comes from', SOURCES[report.source], 'geometry-source'],
          ['As a floppy', floppy === undefined ? 'not the size of a floppy' : floppyWords(floppy), 'geometry-floppy'],
          ['What v86 presents', `${words(report.v86)} as a hard disk`, 'geometry-v86'],
        ],
        'geometry-facts',
      ),
      ...(report.warnings.length > 0
        ? report.warnings.map((warning) => element('p', { class: 'remark', testId: 'geometry-warning' }, warning))
        : [element('p', { class: 'quiet' }, 'Guests that use sector numbers, as all do since the nineties, are not affected by any of this.')]),
    );
  }
}

function words({ cylinders, heads, sectors }: Chs): string {
  return `${count(cylinders)} × ${heads} × ${sectors}`;
}

function floppyWords(floppy: NonNullable<GeometryReport['floppy']>): string {
  const fit = floppy.exact ? '' : '; not an exact floppy size, so the nearest format is used';
  return `${words(floppy.chs)}, in a ${DRIVES[floppy.drive]} drive${fit}`;
}
