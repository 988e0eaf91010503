/** The groups that are measured in the browser; the page and its worker are built from these. */
import type { Group } from '../harness.ts';
import { formats } from './formats.ts';
import { indexedDb } from './indexed-db.ts';
import { opening } from './opening.ts';
import { opfs } from './opfs.ts';
import { readCost } from './read-cost.ts';
import { v86 } from './v86.ts';
import { workerChannel } from './worker-channel.ts';

export const browserGroups: readonly Group[] = [opfs, formats, readCost, opening, indexedDb, v86, workerChannel];
