/** `--object secret,…`: a passphrase. It never appears in output or in an error. */
import { decodeText, encodeText, type OptionSet } from '../qemu.ts';
import { readWhole } from './small-file.ts';
import { Failure, notYet } from './terminal.ts';
import { fileText } from './words.ts';

/** Bytes of a file with a passphrase. */
const LONGEST_SECRET = 1024 * 1024;

const PROPERTIES = ['data', 'file', 'format', 'iv', 'keyid'];

/** Checks a secret's properties; the returned function reads the secret's bytes. Both throw a `Failure` in QEMU's words. */
export function secretOf(properties: OptionSet): () => Uint8Array {
  const [data, file, format, iv, keyId] = PROPERTIES.map((name) => properties.text(name));
  const [unknown] = properties.rest();
  if (unknown !== undefined) throw new Failure(`Parameter '${unknown}' is unexpected`);
  return () => readSecret(data, file, format, keyId ?? iv);
}

function readSecret(data: string | undefined, file: string | undefined, format = 'raw', key?: string): Uint8Array {
  if (format !== 'raw' && format !== 'base64') throw new Failure(`Parameter 'format' does not accept value '${format}'`);
  if (key !== undefined) throw notYet("A secret that is encrypted with another ('keyid')");
  if (data !== undefined && file !== undefined) throw new Failure("'file' and 'data' are mutually exclusive");
  if (data === undefined && file === undefined) throw new Failure("Either 'file' or 'data' must be provided");
  const bytes = file === undefined ? encodeText(data as string) : readSecretFile(file);
  return format === 'base64' ? new Uint8Array(Buffer.from(decodeText(bytes), 'base64')) : bytes;
}

function readSecretFile(path: string): Uint8Array {
  try {
    return readWhole(path, LONGEST_SECRET);
  } catch (error) {
    throw new Failure(`Unable to read ${path}: Failed to open file \u201c${path}\u201d: ${fileText(error)}`);
  }
}
