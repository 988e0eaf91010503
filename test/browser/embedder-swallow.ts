/** To be imported before the engine: a call of `storage` does not reach it, as if the browser could not read the message. */
addEventListener('message', (event: MessageEvent<{ method?: string } | undefined>) => {
  if (event.data?.method !== 'storage') return;
  event.stopImmediatePropagation();
  dispatchEvent(new MessageEvent('messageerror'));
});
