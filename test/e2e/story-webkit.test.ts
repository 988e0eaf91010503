/** The story's brief form in WebKit, in IndexedDB: WebKitGTK makes no handles of OPFS files (test/browser/no-handles.test.ts). */
import { test } from 'vitest';
import { visitIn } from './browser.ts';
import { stage, story } from './story.ts';

const set = stage(() => visitIn('webkit'));

test('a PC in WebKit runs from a qcow2 disk that survives a reload: IndexedDB', () => story(set(), 'indexeddb', { brief: true }));
