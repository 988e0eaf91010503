/**
 * `--object secret,id=…`: passphrases by id, for images whose options name one (`encrypt.key-secret=ID`). Each is read when its option is, as
 * QEMU does it. A secret never appears in output or in an error.
 */
import { readFileSync } from 'node:fs';
import type { SecretCallback } from '../index.ts';
import type { Options } from './options.ts';
import { Failure, notYet, type Terminal } from './terminal.ts';
import { systemText } from './words.ts';

/** Kinds of object that QEMU has for other purposes. */
const OTHER_OBJECTS =
  /^(throttle-group|iothread|main-loop|authz-|colo-|cryptodev-|dbus-|filter-|input-|memory-|pr-manager|qtest|rng-|secret_keyring|tls-|x-)/;
const PROPERTIES = ['data', 'file', 'format', 'iv', 'keyid'];

/** By the terminal of the command that named them: every command has one of its own. */
const known = new WeakMap<Terminal, Secrets>();

/** Reads what `--object` names, for the images that the command opens. Throws a `Failure` in QEMU's words. */
export function takeObjects(terminal: Terminal, options: Options): void {
  for (const object of options.all('object')) secretsOf(terminal).add(object);
}

/** Answers with the secrets that the command was given. */
export const askSecrets = (terminal: Terminal): SecretCallback => secretsOf(terminal).ask;

/** Throws a `Failure` if the command was given no secret of this id. */
export function requireSecret(terminal: Terminal, id: string): void {
  if (!secretsOf(terminal).has(id)) throw new Failure(`No secret with id '${id}'`);
}

function secretsOf(terminal: Terminal): Secrets {
  const secrets = known.get(terminal) ?? new Secrets();
  known.set(terminal, secrets);
  return secrets;
}

class Secrets {
  readonly #values = new Map<string, Uint8Array>();

  has(id: string): boolean {
    return this.#values.has(id);
  }

  add(object: string): void {
    this.#add(object.startsWith('{') ? fromJson(object) : fromList(object));
  }

  /** Answers with the secret that options name. An image whose options name none has none. */
  readonly ask: SecretCallback = ({ id }) => (id === undefined ? undefined : this.#values.get(id));

  #add(properties: Map<string, string>): void {
    const take = (name: string): string | undefined => {
      const value = properties.get(name);
      properties.delete(name);
      return value;
    };
    const kind = take('qom-type');
    if (kind === undefined) throw new Failure("Parameter 'qom-type' is missing");
    if (kind !== 'secret') {
      if (OTHER_OBJECTS.test(kind)) throw notYet(`The object '${kind}'`);
      throw new Failure(`Parameter 'qom-type' does not accept value '${kind}'`);
    }
    const id = take('id');
    if (id === undefined) throw new Failure("Parameter 'id' is missing");
    for (const name of properties.keys()) if (!PROPERTIES.includes(name)) throw new Failure(`Parameter '${name}' is unexpected`);
    if (!/^[a-z][-\w.]*$/i.test(id))
      throw new Failure("Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.");
    const bytes = readSecret(properties);
    if (this.#values.has(id)) throw new Failure(`attempt to add duplicate property '${id}' to object (type 'container')`);
    this.#values.set(id, bytes);
  }
}

/** The bytes that an object's properties stand for. */
function readSecret(properties: ReadonlyMap<string, string>): Uint8Array {
  const [data, file, keyId] = ['data', 'file', 'keyid'].map((name) => properties.get(name));
  const format = properties.get('format') ?? 'raw';
  if (format !== 'raw' && format !== 'base64') throw new Failure(`Parameter 'format' does not accept value '${format}'`);
  if (keyId !== undefined || properties.has('iv')) throw notYet("A secret that is encrypted with another ('keyid')");
  if (data !== undefined && file !== undefined) throw new Failure("'file' and 'data' are mutually exclusive");
  if (data === undefined && file === undefined) throw new Failure("Either 'file' or 'data' must be provided");
  const bytes = file === undefined ? new TextEncoder().encode(data) : readSecretFile(file);
  return format === 'base64' ? new Uint8Array(Buffer.from(new TextDecoder().decode(bytes), 'base64')) : bytes;
}

function readSecretFile(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    throw new Failure(`Unable to read ${path}: Failed to open file \u201c${path}\u201d: ${systemText(error) ?? String(error)}`);
  }
}

/** `secret,id=x,data=y`: the kind first, without a name; a comma inside a value is doubled. */
function fromList(list: string): Map<string, string> {
  const properties = new Map<string, string>();
  for (const [index, item] of (list.match(/(?:[^,]|,,)+/g) ?? []).entries()) {
    const equals = item.indexOf('=');
    const name = equals < 0 ? (index === 0 ? 'qom-type' : item) : item.slice(0, equals);
    properties.set(name, (equals < 0 ? (index === 0 ? item : 'on') : item.slice(equals + 1)).replaceAll(',,', ','));
  }
  return properties;
}

function fromJson(json: string): Map<string, string> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Failure('JSON parse error, invalid object');
  }
  return new Map(Object.entries(value as Record<string, unknown>).map(([name, property]) => [name, String(property)]));
}
