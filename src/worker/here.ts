/** The engine on the caller's own thread, for browsers that start no worker for it. */
import { check } from '../base/arguments.ts';
import { loadPart } from '../base/load-part.ts';
import { connect } from './client.ts';
import { CONNECT_OPTIONS, type ConnectOptions } from './connect-options.ts';
import type { Engine } from './engine.ts';

/**
 * Runs the engine on the page's own thread: for browsers that start no module workers, and pages whose policy allows none. Images are kept in IndexedDB only,
 * since OPFS is for workers, and long work (a check, a conversion) holds up the page. Throws as `connectEngine`.
 */
export async function connectEngineHere(options: ConnectOptions = {}): Promise<Engine> {
  check('connectEngineHere', 'options', options, CONNECT_OPTIONS);
  const { serve } = await loadPart(() => import('./host.ts'));
  const { port1, port2 } = new MessageChannel();
  serve(port2);
  port1.start();
  port2.start();
  return connect(
    {
      postMessage: port1.postMessage.bind(port1) as Worker['postMessage'],
      addEventListener: port1.addEventListener.bind(port1) as Worker['addEventListener'],
      terminate: () => port1.close(),
    },
    options,
  );
}
