/**
 * The built page's integrity: nothing inline and no other origin in what is served, no violation of its own policy in use, and a policy
 * that stops what somebody might smuggle in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createImage, openTab, policyOf, type Visit, visit } from './browser.ts';

let browser: Visit;
let html: string;

beforeAll(async () => {
  browser = await visit();
  html = await (await fetch(browser.address)).text();
});

afterAll(() => browser?.close());

test('the policy allows nothing inline, no text as code and no other origin', () => {
  const directives = new Map(
    policyOf(html)
      .split(';')
      .map((text) => text.trim().split(/\s+/))
      .map(([name = '', ...sources]) => [name, sources]),
  );
  expect(directives.get('default-src')).toEqual(["'self'"]);
  expect(directives.get('script-src')).toEqual(["'self'", "'wasm-unsafe-eval'"]);
  expect(directives.get('style-src')).toEqual(["'self'"]);
  expect(directives.get('object-src')).toEqual(["'none'"]);
  expect(directives.get('base-uri')).toEqual(["'none'"]);
  expect(directives.get('form-action')).toEqual(["'none'"]);
  const sources = [...directives.values()].flat();
  for (const source of sources) expect(["'self'", "'none'", "'wasm-unsafe-eval'", 'blob:', 'data:']).toContain(source);
});

test('the page has no inline script, style or handler, and names no other origin', () => {
  const scripts = [...html.matchAll(/<script\b([^>]*)>([^]*?)<\/script>/g)];
  expect(scripts.length).toBeGreaterThan(0);
  for (const [, attributes, text] of scripts) {
    expect(attributes).toMatch(/\bsrc="\.\//);
    expect(text).toBe('');
  }
  expect(html).not.toMatch(/<style\b|\sstyle=|\son[a-z]+=|javascript:|https?:|\s(?:src|href)="\/\//);
});

test('in use the page does not violate its policy', async () => {
  const page = await browser.tab();
  await page.evaluate(() => {
    const found: string[] = [];
    Object.assign(window, { violations: found });
    document.addEventListener('securitypolicyviolation', (event) => found.push(`${event.violatedDirective}: ${event.blockedURI}`));
  });
  await createImage(page, { name: 'plain', size: '64M' });
  for (const name of ['overview', 'snapshots', 'geometry', 'map', 'run'] as const) await openTab(page, name);
  await page.getByTestId('theme').click();
  expect(await page.evaluate(() => (window as unknown as { violations: string[] }).violations)).toEqual([]);
  expect(browser.complaints).toEqual([]);
  await page.close();
});

test('what is smuggled in does not run and does not get out', async () => {
  const page = await browser.tab();
  const attempts = await page.evaluate(async () => {
    // Each is reported twice: the policy is in the page and in the header.
    const found = new Set<string>();
    document.addEventListener('securitypolicyviolation', (event) => found.add(event.effectiveDirective));
    const blocked = async (attempt: () => unknown): Promise<string[]> => {
      found.clear();
      try {
        await attempt();
      } catch {
        // Refused at once, or later by the event.
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
      return [...found];
    };
    const add = (tag: string, set: Record<string, string>, text = '') => {
      const element = document.createElement(tag);
      for (const [name, value] of Object.entries(set)) element.setAttribute(name, value);
      element.textContent = text;
      document.body.append(element);
    };
    return {
      script: await blocked(() => add('script', {}, 'window.smuggled = true')),
      handler: await blocked(() => {
        add('button', { onclick: 'window.smuggled = true', id: 'smuggled' });
        document.getElementById('smuggled')?.click();
      }),
      evaluated: await blocked(() => new Function('window.smuggled = true')()),
      style: await blocked(() => add('style', {}, 'body { display: none }')),
      remoteScript: await blocked(() => add('script', { src: 'https://example.org/x.js' })),
      image: await blocked(() => add('img', { src: 'https://example.org/x.png' })),
      request: await blocked(() => fetch('https://example.org/')),
      socket: await blocked(() => new WebSocket('wss://example.org/')),
      frame: await blocked(() => add('iframe', { src: 'https://example.org/' })),
      smuggled: 'smuggled' in window && (window as unknown as { smuggled: unknown }).smuggled === true,
    };
  });
  expect(attempts).toEqual({
    script: ['script-src-elem'],
    handler: ['script-src-attr'],
    evaluated: ['script-src'],
    style: ['style-src-elem'],
    remoteScript: ['script-src-elem'],
    image: ['img-src'],
    request: ['connect-src'],
    socket: ['connect-src'],
    frame: ['frame-src'],
    smuggled: false,
  });
  await page.close();
  // The policy's own words about these attempts.
  browser.complaints.splice(0);
});

test('nothing that is served loads code from elsewhere', () => {
  const folder = join(browser.folder, 'assets');
  const scripts = readdirSync(folder).filter((name) => name.endsWith('.js'));
  expect(scripts.length).toBeGreaterThan(2);
  for (const name of scripts) expect(readFileSync(join(folder, name), 'utf8'), name).not.toMatch(/\bimport\s*\(\s*["'`]https?:|from\s*["']https?:/);
});
