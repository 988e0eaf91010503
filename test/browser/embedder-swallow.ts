/** To be imported before the engine: a call of `library.storage` does not reach it, as if the browser could not read the message. */

// Vitest wraps `import()`, and puts this at the top of a worker's first module: after all that the module imports.
Object.assign(globalThis, { __vitest_browser_runner__: { wrapDynamicImport: (load: () => unknown) => load() } });

addEventListener('message', (event: MessageEvent<{ method?: string } | undefined>) => {
  if (event.data?.method !== 'library.storage') return;
  event.stopImmediatePropagation();
  dispatchEvent(new MessageEvent('messageerror'));
});
