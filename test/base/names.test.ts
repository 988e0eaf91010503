/** Names as QEMU reads them. What it makes of them on the command line is in test/cli/wrong.test.ts. */
import { describe, expect, test } from 'vitest';
import { beside, combineNames, folderOf, isAbsolute, isRelative, protocolOf } from '../../src/base/names.ts';

test.each([
  ['disk.img', undefined, false],
  ['/a/b', undefined, true],
  ['file:a/b', 'file', false],
  ['file:/a/b', 'file', false],
  ['http://host/a:b', 'http', false],
  ['json:{"driver": "raw"}', 'json', false],
  ['./a:b', undefined, false],
  ['dir/a:b', undefined, false],
  ['a:b/c', 'a', false],
  [':a', '', false],
  ['C:\\vm\\a.img', 'C', false],
  ['', undefined, false],
])('%s has the protocol %s; absolute: %s', (name, protocol, absolute) => {
  expect([protocolOf(name), isAbsolute(name), isRelative(name)]).toEqual([protocol, absolute, !absolute && protocol === undefined]);
});

test.each([
  ['C:\\vm\\a.img', undefined, true],
  ['C:a.img', undefined, true],
  ['\\\\.\\PhysicalDrive0', undefined, true],
  ['//./PhysicalDrive0', undefined, true],
  ['\\a', undefined, true],
  ['/a', undefined, true],
  ['vm\\a:b', undefined, false],
  ['a.img', undefined, false],
  ['http://host/a', 'http', false],
])('on Windows %s has the protocol %s; absolute: %s', (name, protocol, absolute) => {
  expect([protocolOf(name, 'windows'), isAbsolute(name, 'windows')]).toEqual([protocol, absolute]);
});

describe('a name put behind another', () => {
  test.each([
    ['disk.qcow2', 'base.img', 'base.img'],
    ['a/disk.qcow2', 'base.img', 'a/base.img'],
    ['a/disk.qcow2', '../base.img', 'a/../base.img'],
    ['/a/disk.qcow2', '/b/base.img', '/b/base.img'],
    ['file:disk.qcow2', 'base.img', 'file:base.img'],
    ['file:a/disk.qcow2', 'base.img', 'file:a/base.img'],
    ['http://host/a/disk.qcow2?x=1', 'base.img', 'http://host/a/base.img'],
    ['a:b', 'c', 'a:c'],
    ['./a:b', 'c', './c'],
    ['a/', 'c', 'a/c'],
    ['', 'c', 'c'],
    // Not the business of joining: a protocol is data here.
    ['a/disk', 'nbd:x', 'a/nbd:x'],
  ])('%s and %s are %s', (base, name, full) => {
    expect(combineNames(base, name)).toBe(full);
  });

  test('on Windows', () => {
    expect(combineNames('C:\\vm\\disk.qcow2', 'base.img', 'windows')).toBe('C:\\vm\\base.img');
    expect(combineNames('C:disk.qcow2', 'base.img', 'windows')).toBe('C:base.img');
    expect(combineNames('C:\\vm/disk.qcow2', 'D:\\base.img', 'windows')).toBe('D:\\base.img');
    expect(folderOf('vm\\disk.qcow2', 'windows')).toBe('vm\\');
  });
});

test('what an image names counts from its folder, if it has one', () => {
  expect(beside('images/top.qcow2', 'base.qcow2')).toBe('images/base.qcow2');
  expect(beside('images/top.qcow2', 'file:base.qcow2')).toBe('file:base.qcow2');
  expect(beside('images/top.qcow2', 'json:{}')).toBe('json:{}');
  expect(beside('images/top.qcow2', '')).toBe('');
  expect(beside('json:{}', '/base')).toBe('/base');
  for (const from of ['', 'json:{"driver": "qcow2"}'])
    expect(() => beside(from, 'base')).toThrow(`Cannot use relative backing file names for '${from}'`);
});
