/** Each rule finds what was planted for it and nothing else, so that a rule that has gone blind is noticed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openPlanted, type SourceText, type TypedProject } from './project.ts';
import { answerFindings } from './readmes.ts';
import { importCycles, strayImports } from './rooms.ts';
import * as shape from './shape.ts';
import { undocumentedSurface, unexportedTypes } from './surface.ts';

const lines = (count: number, line: string) => `${line}\n`.repeat(count);

const PLANTED = {
  'src/base/upwards.ts': "/** Imports from above. */\nimport type { Storage } from '../storage/storage.ts';\nexport type Mine = Storage;\n",
  'src/formats/first/index.ts': "/** Imports a sibling. */\nimport { second } from '../second/index.ts';\nexport const first = second;\n",
  'src/formats/second/index.ts':
    "/** Imports itself and what it may. */\nimport { second as mine } from './layout.ts';\nexport const second = mine;\n",
  'src/formats/second/layout.ts':
    "/** Waits. */\nimport type { Io } from '../../base/io.ts';\nexport const second = 2;\nexport function* load(): Io<void> {}\n",
  'src/formats/second/layout-map.ts': '/** Waits. */\nexport const map = async (): Promise<number> => 3;\n',
  'src/formats/second/layouts.ts': '/** No layout, but a list of them, which may wait. */\nexport const list = async (): Promise<number> => 3;\n',
  'src/crypto/key-layout.ts': "/** Sees a storage. */\nimport type { Storage } from '../storage/storage.ts';\nexport type Kept = Storage;\n",
  'src/jobs/foreign.ts': "/** Uses a package of another room. */\nimport { get } from 'idb-keyval';\nvoid get;\n",
  'src/disk/circle-a.ts': "/** One half. */\nimport { b } from './circle-b.ts';\nexport const a = (): unknown => b;\n",
  'src/disk/circle-b.ts': "/** The other half. */\nimport { a } from './circle-a.ts';\n/** Documented. */\nexport const b = (): unknown => a;\n",
  'src/disk/types-only.ts': "/** A circle of types. */\nimport { type Late } from './types-late.ts';\nexport type Early = Late;\n",
  'src/disk/types-late.ts': "/** Its other half. */\nimport type { Early } from './types-only.ts';\nexport type Late = Early[];\n",
  'src/drive/utils.ts': 'export const nothing = 0;\n',
  'src/drive/long.ts': `/** Long. */\n/** Documented. */\nexport function long(): void {\n${lines(68, '  void 0;')}}\n${lines(440, '// more')}`,
  'src/drive/fits.ts': `/** Fits. */\n/** Documented. */\nexport function fits(): void {\n${lines(67, '  void 0;')}}\n${lines(428, '// more')}`,
  'src/index.ts': `/** An entry. */
export { Lamp, type Socket } from './drive/lamp.ts';
export type { Plug } from './drive/plug.ts';
`,
  'src/adapters/v86.ts': "/** An entry that leans on the first. */\nexport { plugIn } from './plug-in.ts';\n",
  'src/adapters/plug-in.ts': `/** Names what the first entry exports, and what none does. */
import type { Plug } from '../drive/plug.ts';
import type { Wire } from '../drive/wire.ts';
/** Documented. */
export const plugIn = (plug: Plug, wires: readonly Wire[]): void => void [plug, wires];
`,
  'src/drive/plug.ts': '/** Exported. */\n/** Documented. */\nexport type Plug = { readonly pins: number };\n',
  'src/drive/wire.ts':
    '/** Exported by no entry. */\n/** Documented. */\nexport interface Wire {\n  /** Documented. */\n  readonly ends: readonly [End, End];\n}\ntype End = string;\n',
  'src/drive/fuse.ts': `/** A type that nobody writes down. */
/** Documented. */
class Fuse {}
/** Documented. */
export const melted = () => new Fuse();
`,
  'src/drive/lamp.ts': `/** Members of all sorts. */
import { melted } from './fuse.ts';
import type { Wire } from './wire.ts';
/** Documented. */
export interface Socket {
  /** Documented. */
  switchOn(): void;
  readonly volts: number;
}
/** Documented. */
export class Lamp implements Socket {
  /** Documented where it is promised. */
  readonly volts = 230;
  readonly #wires: readonly Wire[] = [];
  /** @internal */
  readonly wires = this.#wires;
  switchOn(): void {
    const wire: Wire | undefined = this.#wires[0];
    void wire;
  }
  get watts(): number {
    return 0;
  }
  set watts(_: number) {}
  protected blow(_: Wire): void {}
  /** Documented. */
  fuses() {
    return [melted()];
  }
}
`,
};

let project: TypedProject;
let sources: readonly SourceText[];

beforeAll(() => {
  project = openPlanted(PLANTED);
  sources = project.files;
});

afterAll(() => project.close());

/** The paths that findings start with. */
const paths = (findings: readonly string[]) => findings.map((text) => /^[\w./-]+/.exec(text)?.[0]);

describe('the rule', () => {
  test('for imports', () => {
    expect(paths(strayImports(sources))).toEqual(['src/base/upwards.ts', 'src/formats/first/index.ts', 'src/jobs/foreign.ts']);
  });

  test('for cycles', () => {
    expect(importCycles(sources)).toEqual([
      'import cycle: src/disk/circle-a.ts -> src/disk/circle-b.ts -> src/disk/circle-a.ts',
      'import cycle: src/disk/types-only.ts -> src/disk/types-late.ts -> src/disk/types-only.ts',
    ]);
  });

  test('for layouts', () => {
    expect(paths(sources.flatMap(shape.waitingLayouts))).toEqual([
      'src/formats/second/layout.ts',
      'src/formats/second/layout-map.ts',
      'src/crypto/key-layout.ts',
    ]);
  });

  test('for the length of files and functions', () => {
    expect(paths(shape.longFiles(sources))).toEqual(['src/drive/long.ts']);
    expect(paths(sources.flatMap(shape.longFunctions))).toEqual(['src/drive/long.ts']);
  });

  test('for file names', () => expect(paths(shape.badNames(sources))).toEqual(['src/drive/utils.ts']));
  test('for headers', () => expect(paths(shape.missingHeaders(sources))).toEqual(['src/drive/utils.ts']));

  test('for doc comments', () => {
    expect(paths(sources.flatMap(shape.undocumented))).toEqual(['src/formats/second/layout.ts', 'src/disk/circle-a.ts']);
  });

  test('for members of the surface', () => {
    expect(undocumentedSurface(project, ['src/index.ts', 'src/adapters/v86.ts'])).toEqual([
      'src/drive/lamp.ts:21: Lamp.watts has no doc comment',
      'src/drive/lamp.ts:8: Socket.volts has no doc comment',
    ]);
  });

  test('for types of the surface', () => {
    expect(unexportedTypes(project, ['src/index.ts', 'src/adapters/v86.ts'])).toEqual([
      'src/index.ts does not export Fuse, which Lamp names',
      'src/adapters/v86.ts does not export Wire, which plugIn names',
      'src/adapters/v86.ts does not export End, which Wire names',
    ]);
  });

  test('for answers', () => {
    const files: Record<string, string> = { 'src/drive/tray.ts': 'export class Tray { eject() {} }', 'test/drive/tray.test.ts': "test('tray')" };
    const rows = [
      '| Row | Group | Answer | In | Test |',
      '| 1 | right | `Tray.eject` | `drive/tray.ts` | `test/drive/tray.test.ts` |',
      '| 2 | no such method | `Tray.inject` | `drive/tray.ts` | `test/drive/tray.test.ts` |',
      '| 3 | no such test | `Tray` | `drive/tray.ts` | `test/drive/lock.test.ts` |',
      '| 4 | nothing | | | |',
    ];
    const found = answerFindings(rows.join('\n'), 4, (path) => files[path]);
    expect(found.map((finding) => /row (\d): (\S+)/.exec(finding)?.slice(1))).toEqual([
      ['2', 'inject'],
      ['3', 'test/drive/lock.test.ts'],
      ['4', 'it'],
    ]);
    expect(answerFindings(rows.slice(0, 2).join('\n'), 2, (path) => files[path])).toEqual(['src/README.md: the rows are not 1 to 2, in order']);
  });
});
