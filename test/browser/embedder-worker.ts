/** An embedder's own worker around the engine, with code of its own that fails in all the ways that such code can. */
import './embedder-swallow.ts';
import '../../src/worker/index.ts';

/** What it can be told to do; anything else it leaves to the engine. */
export type EmbedderOrder = { readonly order: 'throw' | 'reject' | 'chatter' | 'handler' | 'end' };

const fail = (how: string): never => {
  throw new Error(`the embedder's own ${how}`);
};

addEventListener('message', ({ data }: MessageEvent<EmbedderOrder | undefined>) => {
  const order = data?.order;
  if (order === 'throw') fail('exception');
  else if (order === 'reject') void Promise.resolve().then(() => fail('rejection'));
  else if (order === 'chatter')
    for (const message of [undefined, null, 5, 'text', [], { type: 7 }, { type: 'batch' }, { id: 1 }]) postMessage(message);
  else if (order === 'handler') Object.assign(globalThis, { onmessage: () => fail('handler') });
  else if (order === 'end') close();
});

fail('start');
