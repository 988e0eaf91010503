/** Passphrases of encrypted images, as the caller of `openDisk` gives them: one for all, or a function that is asked for each image. */
import { utf8 } from '../base/bytes.ts';
import { asDiskError } from '../base/errors.ts';
import { wait } from '../base/io.ts';
import type { AskSecret, SecretRequest } from '../crypto/passphrase.ts';

/** A passphrase: text, or its bytes in UTF-8. */
export type Secret = string | Uint8Array;

/** Answers with an image's passphrase, or undefined if there is none; it may ask a person and so take its time. */
export type SecretCallback = (request: SecretRequest) => Secret | undefined | PromiseLike<Secret | undefined>;

/** The form in which drivers ask for a passphrase. */
export function askSecret(secret: Secret | SecretCallback | undefined): AskSecret | undefined {
  if (secret === undefined) return undefined;
  return function* ask(request) {
    const answer = typeof secret === 'function' ? yield* wait(call(secret, request)) : secret;
    return typeof answer === 'string' ? utf8(answer) : answer;
  };
}

/** For an image that is made and then opened: the answer for the new image is used again for opening it. */
export function askedOnce(image: string, secret: Secret | SecretCallback): SecretCallback {
  let answer: Secret | undefined;
  return async (request) => {
    if (request.image !== image) return typeof secret === 'function' ? secret(request) : secret;
    answer ??= typeof secret === 'function' ? await secret(request) : secret;
    return answer;
  };
}

async function call(secret: SecretCallback, request: SecretRequest): Promise<Secret | undefined> {
  try {
    return await secret(request);
  } catch (error) {
    throw asDiskError(error, `The passphrase of ${request.image} could not be had`, { field: 'key-secret' });
  }
}
