/**
 * House rules that a machine can keep. Each test lists what breaks its rule, as `file:line: what`; the rules are in test/tidy/.
 * Types and lint are checked by `npm run check` beside this.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forgottenYields } from './tidy/coroutines.ts';
import { openProject, projectFiles, type SourceText, type TypedProject, textOf } from './tidy/project.ts';
import { answerFindings, deadPaths, mapFindings } from './tidy/readmes.ts';
import { importCycles, MAP, strayImports } from './tidy/rooms.ts';
import * as shape from './tidy/shape.ts';
import * as surface from './tidy/surface.ts';
import { strayWords } from './tidy/words.ts';

/** Rooms whose files are being cut anew, with cycles of types among them. */
const BEING_REBUILT = /^import cycle: src\/(node\/|formats\/(tools|driver|qcow2\/(metadata|encryption))\.ts)/;

let project: TypedProject;
let sources: readonly SourceText[];

beforeAll(() => {
  project = openProject();
  sources = project.files.filter(({ path }) => path.startsWith('src/'));
});

afterAll(() => {
  const lengths = sources.map(shape.lineCount).sort((a, b) => a - b);
  console.log(`${lengths.length} source files, median length ${lengths[Math.floor(lengths.length / 2)]} lines, longest ${lengths.at(-1)}`);
  project.close();
});

describe('rooms', () => {
  test('import only what the table allows', () => expect(strayImports(sources)).toEqual([]));
  test('have no import cycles', () => expect(importCycles(sources).filter((cycle) => !BEING_REBUILT.test(cycle))).toEqual([]));
});

describe('coroutines', () => {
  test('are called under yield*', () => expect(project.files.flatMap((file) => forgottenYields(file, project.checker))).toEqual([]));
  test('are not in files of layouts', () => expect(sources.flatMap(shape.waitingLayouts)).toEqual([]));
});

describe('source files', () => {
  test('are short', () => expect(shape.longFiles(project.files)).toEqual([]));
  test('have short functions', () => expect(sources.flatMap(shape.longFunctions)).toEqual([]));
  test('are called by what is in them', () => expect(shape.badNames(project.files)).toEqual([]));
  test('say what they are', () => expect(shape.missingHeaders(sources)).toEqual([]));
  test('document what they export', () => expect(sources.flatMap(shape.undocumented)).toEqual([]));
  test('document the public surface', () => expect(surface.undocumentedSurface(project)).toEqual([]));
  test('export every type that the public surface names', () => expect(surface.unexportedTypes(project)).toEqual([]));
});

describe('words', () => {
  test('name no machine, registry or issue, and no test is left out', () => expect(strayWords(projectFiles())).toEqual([]));
});

describe('READMEs', () => {
  test.each(['README.md', MAP])('%s names only paths that exist', (readme) => expect(deadPaths(readme)).toEqual([]));
  test('the rows of block.h have their answers and tests', () => expect(answerFindings(textOf(MAP) ?? '', 41)).toEqual([]));
  test('the map draws every source file', () => expect(mapFindings(projectFiles())).toEqual([]));
});
