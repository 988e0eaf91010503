/** Every group, in the order of the table. */
import type { Group } from '../harness.ts';
import { browserGroups } from './browser.ts';
import { bundle } from './bundle.ts';
import { commandLine } from './command-line.ts';
import { memory } from './memory.ts';

export const allGroups: readonly Group[] = [...browserGroups, commandLine, memory, bundle];
