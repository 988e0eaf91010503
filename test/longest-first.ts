/** The order of test files: those that take longest come first, so that at the end all workers have something left to do. */
import { relative, resolve } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const TOP = resolve(import.meta.dirname, '..');

/** Files that take more than ten seconds, the longest first. */
const LONG = [
  'adapters/v86-guest',
  'faults/matrix',
  'crash/crash',
  'oracle/damage',
  'oracle/turns',
  'fuzz/fuzz',
  'cli/streams',
  'cli/cut-short',
  'cli/chains',
  'model/node',
  'oracle/locks',
  'cli/hostile-names',
  'cli/data-file',
  'oracle/encryption',
  'formats/qcow2/compressed',
  'cli/encryption',
].map((name) => `test/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = LONG.indexOf(relative(TOP, moduleId));
      return index < 0 ? LONG.length : index;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}
