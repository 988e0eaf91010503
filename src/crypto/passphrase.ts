/** Asking for the passphrase of an encrypted image. The code that opens the image answers; no other code knows where secrets come from. */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';

/** The image that needs a passphrase. */
export interface SecretRequest {
  /** Name of the image's storage. */
  readonly image: string;
  /** The image's format, by QEMU's name. */
  readonly format: string;
  /** LUKS, or the AES encryption of old qcow2 images. */
  readonly encryption: 'luks' | 'aes';
  /** The secret's name in the options, if they have one: the value of `key-secret`, or of `amend`'s `new-secret` and `old-secret`. */
  readonly id?: string;
}

/** Answers with the passphrase in UTF-8, or undefined if there is none for the image. */
export type AskSecret = (request: SecretRequest) => Io<Uint8Array | undefined>;

/** The passphrase. Throws `refused` if there is none, naming the option `field` that the format has for it. */
export function* passphraseFor(ask: AskSecret | undefined, request: SecretRequest, field: string): Io<Uint8Array> {
  const { format } = request;
  const secret = yield* passphraseIfAny(ask, request, field);
  if (!secret && request.id !== undefined) throw new DiskError('refused', `${format}: No secret with id '${request.id}'`, { format, field });
  if (!secret) throw new DiskError('refused', `${format}: Parameter '${field}' is required for cipher`, { format, field });
  return secret;
}

/** The passphrase, or undefined if there is none. Throws `refused` if it is not text. */
export function* passphraseIfAny(ask: AskSecret | undefined, request: SecretRequest, field: string): Io<Uint8Array | undefined> {
  const { format } = request;
  const secret = ask ? yield* ask(request) : undefined;
  if (!secret) return undefined;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(secret);
  } catch {
    throw new DiskError('refused', `${format}: Data from secret ${request.id ?? request.image} is not valid UTF-8`, { format, field });
  }
  return secret;
}
