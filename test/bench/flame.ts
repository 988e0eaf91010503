/**
 * `npm run bench:flame`: where the time of a request goes, from Chromium's own sampling profiler while the engine's rows of the bench run in
 * their worker. Only what is under the disk's own calls counts, not the anchors. Draws test/bench/flame.svg, a flame graph for each of the
 * paths, and prints each one's most expensive functions.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CDPSession } from 'playwright-core';
import { startPage } from './browser.ts';
import { opfs } from './groups/opfs.ts';
import type { Request } from './measuring.ts';

const PICTURE = join(import.meta.dirname, 'flame.svg');
/** Microseconds between samples. */
const INTERVAL = 100;
const ROUNDS = 40;
/** The function of the bench that fills a disk before it is measured. */
const SET_UP = 'allocatedDisk';
// Of the picture, in pixels: narrower frames than the least are left out.
const WIDTH = 1200;
const LINE = 17;
const LEAST = 2;

const PATHS = [
  { row: 'opfs-read-4k', title: '4 KiB random reads, tables warm, cache off', roots: ['readSync'] },
  { row: 'opfs-read-4k-cached', title: '4 KiB random reads, all in cache', roots: ['readSync'] },
  {
    row: 'opfs-write-4k-writeback',
    title: '4 KiB random writes over allocated clusters, write-back, flush every 1,000',
    roots: ['writeSync', 'flushSync'],
  },
  { row: 'opfs-write-4k-allocating', title: '4 KiB random writes, all allocating, flush every 1,000', roots: ['writeSync', 'flushSync'] },
] as const;

/** A function where it was called, and how many samples were in it or below. */
interface Frame {
  readonly name: string;
  samples: number;
  /** Of `samples`, those in the function itself. */
  own: number;
  readonly below: Map<string, Frame>;
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string };
  readonly hitCount?: number;
  readonly children?: readonly number[];
}

const newFrame = (name: string): Frame => ({ name, samples: 0, own: 0, below: new Map() });

const { page, browser, close } = await startPage((text) => console.error(text), 'kept');
const pictures: string[] = [];
try {
  for (const { row, title, roots } of PATHS) {
    // Ends the worker of the path before.
    await page.reload();
    const nodes = await profileOf(await browser.context.newCDPSession(page), {
      group: opfs.name,
      rows: [row],
      rounds: row.includes('read') ? ROUNDS : 11,
    });
    const flame = foldProfile(nodes, roots);
    pictures.push(`${title}: ${flame.samples} samples`, ...drawFlame(flame));
    console.log(`\n${title} (${flame.samples} samples)\n${mostExpensive(flame)}`);
  }
} finally {
  await close();
}
writeFileSync(PICTURE, picture(pictures));
console.log(`\n${PICTURE} is drawn.`);

/** Profiles the worker that the page starts for a group, from before its first line. */
async function profileOf(session: CDPSession, request: Request): Promise<readonly ProfileNode[]> {
  // The worker speaks through the page's session, as text: an answer by its number.
  const answers = new Map<number, (result: unknown) => void>();
  let last = 0;
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message) as { id?: number; result?: unknown };
    if (id !== undefined) answers.get(id)?.(result);
  });
  const ask = (sessionId: string, method: string, params: object = {}) =>
    new Promise<unknown>((resolve) => {
      answers.set(++last, resolve);
      void session.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id: last, method, params }) });
    });
  const attached = new Promise<string>((resolve) => {
    session.on('Target.attachedToTarget', ({ sessionId, targetInfo }) => {
      if (targetInfo.type === 'worker') resolve(sessionId);
    });
  });
  await session.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: true, flatten: false });
  const ended = page.evaluate((asked) => window.runGroup(asked, { keepWorker: true }), request);
  const worker = await attached;
  await ask(worker, 'Profiler.enable');
  await ask(worker, 'Profiler.setSamplingInterval', { interval: INTERVAL });
  await ask(worker, 'Profiler.start');
  await ask(worker, 'Runtime.runIfWaitingForDebugger');
  await ended;
  const { profile } = (await ask(worker, 'Profiler.stop')) as { profile: { nodes: readonly ProfileNode[] } };
  await session.detach();
  return profile.nodes;
}

/** The calls of `roots` wherever they were made but in the set-up, as one tree. */
function foldProfile(nodes: readonly ProfileNode[], roots: readonly string[]): Frame {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const all = newFrame('all');
  const visit = (node: ProfileNode, into: Frame | undefined): number => {
    const name = node.callFrame.functionName || '(anonymous)';
    if (name === SET_UP) return 0;
    const inside = into ?? (roots.includes(name) ? all : undefined);
    const frame = inside && childOf(inside, name);
    const own = node.hitCount ?? 0;
    let samples = own;
    for (const id of node.children ?? []) samples += visit(byId.get(id) as ProfileNode, frame);
    if (frame) {
      frame.own += own;
      frame.samples += samples;
      if (!into) all.samples += samples;
    }
    return samples;
  };
  if (nodes[0]) visit(nodes[0], undefined);
  return all;
}

function childOf(frame: Frame, name: string): Frame {
  const found = frame.below.get(name) ?? newFrame(name);
  frame.below.set(name, found);
  return found;
}

function mostExpensive(flame: Frame): string {
  const own = new Map<string, number>();
  const add = (frame: Frame): void => {
    own.set(frame.name, (own.get(frame.name) ?? 0) + frame.own);
    for (const below of frame.below.values()) add(below);
  };
  add(flame);
  const sorted = [...own].sort((a, b) => b[1] - a[1]).slice(0, 16);
  return sorted.map(([name, samples]) => `${((100 * samples) / flame.samples).toFixed(1).padStart(6)} %  ${name}`).join('\n');
}

/** Rows of rectangles: x and width in samples. */
interface Box {
  readonly x: number;
  readonly depth: number;
  readonly frame: Frame;
}

/** The lines of one flame's SVG, the callers above. */
function drawFlame(flame: Frame): string[] {
  const scale = WIDTH / flame.samples;
  const boxes: Box[] = [];
  const place = (frame: Frame, x: number, depth: number): void => {
    let next = x;
    for (const below of [...frame.below.values()].sort((a, b) => b.samples - a.samples)) {
      if (below.samples * scale >= LEAST) boxes.push({ x: next, depth, frame: below });
      place(below, next, depth + 1);
      next += below.samples;
    }
  };
  place(flame, 0, 0);
  return boxes.map(({ x, depth, frame }) => {
    const width = frame.samples * scale;
    const share = `${((100 * frame.samples) / flame.samples).toFixed(1)} %`;
    const label = width > 40 ? `${frame.name} ${share}`.slice(0, Math.floor(width / 6.2)) : '';
    const hue = 20 + ((frame.name.length * 7) % 35);
    const at = `x="${(x * scale).toFixed(1)}" y="${depth * LINE}"`;
    const box = `<rect ${at} width="${Math.max(1, width - 0.5).toFixed(1)}" height="${LINE - 1}" fill="hsl(${hue} 80% 70%)"/>`;
    const words = label && `<text x="${(x * scale + 3).toFixed(1)}" y="${depth * LINE + 12}">${escaped(label)}</text>`;
    return `${box}<title>${escaped(frame.name)} ${share}</title>${words}`;
  });
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

/** One picture of all: a title is a line without markup. */
function picture(lines: readonly string[]): string {
  const parts: string[] = [];
  let top = 4;
  let height = 0;
  for (const line of lines) {
    if (!line.startsWith('<')) {
      top += height > 0 ? height + LINE : 0;
      parts.push(`<text x="2" y="${top + 12}" font-weight="bold">${escaped(line)}</text>`);
      top += LINE + 2;
      height = 0;
      continue;
    }
    const y = Number(/ y="(\d+)"/.exec(line)?.[1]);
    height = Math.max(height, y + LINE);
    parts.push(`<g transform="translate(0 ${top})">${line}</g>`);
  }
  const size = `width="${WIDTH}" height="${top + height + 4}"`;
  const style = 'font-family="monospace" font-size="10.5"';
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${style}><rect width="100%" height="100%" fill="white"/>\n${parts.join('\n')}\n</svg>\n`;
}
