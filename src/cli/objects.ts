/**
 * `--object KIND,id=…`: objects that the options of images refer to by id. Secrets are passphrases (`encrypt.key-secret=ID`), throttle groups limit how
 * fast images are used (`throttle-group=ID`). Each is made when its option is read, as QEMU does it.
 */
import { type SecretCallback, ThrottleGroup } from '../index.ts';
import { type GraphOptions, OptionSet } from '../qemu.ts';
import type { Options } from './options.ts';
import { secretOf } from './secrets.ts';
import { Failure, notYet, type Terminal } from './terminal.ts';
import { throttleGroupOf } from './throttle-groups.ts';

/** Kinds of object that QEMU has for other purposes. */
const OTHER_OBJECTS = /^(iothread|main-loop|authz-|colo-|cryptodev-|dbus-|filter-|input-|memory-|pr-manager|qtest|rng-|secret_keyring|tls-|x-)/;

type NamedObject = Uint8Array | ThrottleGroup;

/** By the terminal of the command that named them: every command has its own terminal. */
const known = new WeakMap<Terminal, Map<string, NamedObject>>();

/** Makes the objects that `--object` names, for the images that the command opens. Throws a `Failure` in QEMU's words. */
export function takeObjects(terminal: Terminal, options: Options): void {
  for (const object of options.all('object')) add(objectsOf(terminal), object);
}

/** The objects of the command, for opening images. */
export function objectOptions(terminal: Terminal): Required<Pick<GraphOptions, 'throttleGroup'>> & { readonly secret: SecretCallback } {
  return { secret: askSecrets(terminal), throttleGroup: (id) => found(terminal, id, ThrottleGroup) };
}

/** Answers with the secrets of the command. An image whose options name no secret has none. */
export function askSecrets(terminal: Terminal): SecretCallback {
  return ({ id }) => (id === undefined ? undefined : found(terminal, id, Uint8Array));
}

/** Throws a `Failure` if the command has no secret of this id. */
export function requireSecret(terminal: Terminal, id: string): void {
  if (!found(terminal, id, Uint8Array)) throw new Failure(`No secret with id '${id}'`);
}

function found<T extends NamedObject>(terminal: Terminal, id: string, kind: abstract new (...args: never[]) => T): T | undefined {
  const object = objectsOf(terminal).get(id);
  return object instanceof kind ? object : undefined;
}

function objectsOf(terminal: Terminal): Map<string, NamedObject> {
  const objects = known.get(terminal) ?? new Map<string, NamedObject>();
  known.set(terminal, objects);
  return objects;
}

function add(objects: Map<string, NamedObject>, text: string): void {
  const typed = text.startsWith('{');
  const properties = typed ? fromJson(text) : fromList(text);
  const kind = properties.text('qom-type');
  if (kind === undefined) throw new Failure("Parameter 'qom-type' is missing");
  if (OTHER_OBJECTS.test(kind)) throw notYet(`The object '${kind}'`);
  if (kind !== 'secret' && kind !== 'throttle-group') throw new Failure(`Parameter 'qom-type' does not accept value '${kind}'`);
  const id = properties.take('id');
  if (id === undefined) throw new Failure("Parameter 'id' is missing");
  if (typeof id !== 'string') throw new Failure("Invalid parameter type for 'id', expected: string");
  const make = kind === 'secret' ? secretOf(properties) : throttleGroupOf(properties, typed);
  if (!/^[a-z][-\w.]*$/i.test(id))
    throw new Failure("Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.");
  const object = make();
  if (objects.has(id)) throw new Failure(`attempt to add duplicate property '${id}' to object (type 'container')`);
  objects.set(id, object);
}

/** `secret,id=x,data=y`: the kind first, without a name; a comma inside a value is doubled. */
function fromList(list: string): OptionSet {
  const properties = new OptionSet();
  for (const [index, item] of (list.match(/(?:[^,]|,,)+/g) ?? []).entries()) {
    const equals = item.indexOf('=');
    if (equals < 0 && index > 0) throw new Failure(`Expected '=' after parameter '${item}'`);
    const [name, value] = equals < 0 ? ['qom-type', item] : [item.slice(0, equals), item.slice(equals + 1)];
    properties.replace(name, value.replaceAll(',,', ','));
  }
  return properties;
}

function fromJson(json: string): OptionSet {
  try {
    return OptionSet.fromTree(JSON.parse(json));
  } catch {
    throw new Failure('JSON parse error, invalid object');
  }
}
