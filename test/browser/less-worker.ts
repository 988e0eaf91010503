/** The engine's worker in a browser that gives it less: its name says what refuses before the engine is loaded. */
const refuse = () => {
  throw new DOMException('The operation is insecure.', 'SecurityError');
};
if (self.name.includes('indexeddb')) IDBFactory.prototype.open = refuse;
if (self.name.includes('opfs')) StorageManager.prototype.getDirectory = async () => refuse();
if (self.name.includes('locks')) LockManager.prototype.query = async () => refuse();
if (self.name.includes('channel')) Reflect.deleteProperty(globalThis, 'BroadcastChannel');
// Messages that come before the engine is there would be lost: Vitest loads modules one by one.
const early: MessageEvent[] = [];
const keep = (event: MessageEvent) => void early.push(event);
self.addEventListener('message', keep);
void import('../../src/worker/index.ts').then(() => {
  self.removeEventListener('message', keep);
  for (const { data } of early) self.dispatchEvent(new MessageEvent('message', { data }));
});

export type {};
