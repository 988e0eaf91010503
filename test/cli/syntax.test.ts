/**
 * How images are named: options, `json:` names and protocols, beside the real tools. Each list runs through both; what tabdisk makes is
 * read by QEMU and the other way round.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sides } from './harness.ts';

let sides: Sides;
beforeAll(() => {
  sides = new Sides();
  sides.put('odd.raw', new Uint8Array(100_000).fill(7));
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'a.raw', '1M');
  sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 5 0 1M', 'a.raw');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'raw', 'x:y.raw', '64k');
  sides.prepare('qemu-io', '-f', 'raw', '-c', 'write -P 6 0 64k', './x:y.raw');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', 's.qcow2', '1M');
  sides.prepare('qemu-io', '-c', 'write -P 5 0 64k', '-c', 'write -P 5 128k 100k', '-c', 'write -P 5 900k 3k', 's.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 's.qcow2', '-F', 'qcow2', 'o.qcow2');
  sides.prepare('qemu-io', '-c', 'write -P 9 64k 64k', 'o.qcow2');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'json:{"driver":"raw","file.filename":"a.raw"}', '-F', 'raw', 'j.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b', 'json:{"driver":"raw"}', '-F', 'raw', 'lost.qcow2', '1M');
  sides.prepare('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', '1M');
});
afterAll(() => sides.remove());

/** Words without quotes: nothing here has a space inside. */
const words = (line: string): string[] => line.split(' ');
const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');
