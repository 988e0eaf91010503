/** The story's brief form in Firefox, in OPFS and in IndexedDB. */
import { test } from 'vitest';
import { visitIn } from './browser.ts';
import { stage, story } from './story.ts';

const set = stage(() => visitIn('firefox'));

test('a PC in Firefox runs from a qcow2 disk that survives a reload: OPFS', () => story(set(), 'opfs', { brief: true }));
test('a PC in Firefox runs from a qcow2 disk that survives a reload: IndexedDB', () => story(set(), 'indexeddb', { brief: true }));
