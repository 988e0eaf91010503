/** The engine's check of messages: every field of a message before it is used. */
import { SIZE } from '../base/arguments.ts';
import { DiskError } from '../base/errors.ts';
import { type CallMessage, PROTOCOL_VERSION, type ToEngine } from './protocol.ts';
import type { Verb } from './verb.ts';
import { VERBS } from './verbs.ts';

const verbs: Readonly<Record<string, Verb>> = VERBS;

/** The messages in a batch, each still unchecked. Throws `refused` for an empty batch. */
export function unpack(data: unknown): readonly unknown[] {
  if (typeof data !== 'object' || data === null || !('type' in data) || data.type !== 'batch') return [data];
  const { messages } = data as { messages?: unknown };
  if (Array.isArray(messages) && messages.length > 0) return messages;
  throw new DiskError('refused', 'A message to the engine has no messages in it', { field: 'messages' });
}

/** The message, if it is one of ours in every field. Throws `refused` naming the fault. */
export function checkMessage(data: unknown): ToEngine {
  const message = record(data, 'message');
  if (message['type'] === 'hide') return { type: 'hide' };
  if (!SIZE.fits(message['id'])) throw new DiskError('refused', 'A message to the engine has no number', { field: 'id' });
  const id = message['id'] as number;
  if (message['type'] === 'abort' || message['type'] === 'ping') return { type: message['type'], id };
  if (message['type'] === 'pause') return { type: 'pause', id, paused: message['paused'] === true };
  if (message['type'] !== 'call') throw new DiskError('refused', `A message to the engine is of no known type`, { field: 'type' });
  const method = message['method'];
  const found = typeof method === 'string' ? verbNamed(method) : undefined;
  if (!found) {
    // Not `String(method)`: a value in a message may have no text of its own.
    const named = typeof method === 'string' ? `"${method.slice(0, 40)}"` : `of type ${typeof method}`;
    throw new DiskError('refused', `The engine has no call ${named}`, { field: 'method' });
  }
  const args = record(message['arguments'], 'arguments');
  // A page of another version is told only that, whatever else is in its message.
  const foreign = method === 'hello' && SIZE.fits(args['version']) && args['version'] !== PROTOCOL_VERSION;
  if (foreign) return data as CallMessage;
  const where = found.where ?? (method as string);
  const spoilt = message['spoilt'] === true;
  found.takes.inside?.(where, spoilt ? likeness(where, 'arguments', args) : args);
  if (spoilt) throw new DiskError('refused', `${where}: something in its arguments cannot be sent to the engine`, { field: 'arguments' });
  return data as CallMessage;
}

/** The verb of that name, if there is one. */
export const verbNamed = (method: string): Verb | undefined => (Object.hasOwn(verbs, method) ? verbs[method] : undefined);

/** Arguments with a value of the same kind in the place of one that could not be sent: a check refuses it as it would have refused the value. */
function likeness(where: string, name: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if ('unsendable' in value) {
    // Byte arrays of any kind are sent, unless their memory is gone.
    if (value.unsendable === 'Uint8Array')
      throw new DiskError('refused', `${where}: the memory of ${name} is gone: its buffer was transferred elsewhere`, { field: name });
    if (value.unsendable === 'symbol') return Symbol();
    return value.unsendable === 'function' ? () => undefined : { constructor: { name: value.unsendable } };
  }
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([member, each]) => [member, likeness(where, member, each)]));
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new DiskError('refused', `A message to the engine has no ${field}`, { field });
  return value as Record<string, unknown>;
}
