/** Passphrases of encrypted images, as the caller of `openDisk` gives them: one for all, or a function that is asked for each image. */
import { utf8 } from '../base/bytes.ts';
import { asDiskError } from '../base/errors.ts';
import { wait } from '../base/io.ts';
import type { AskSecret, SecretRequest } from '../crypto/passphrase.ts';

/** A passphrase: text, or its bytes in UTF-8. */
export type Secret = string | Uint8Array;

/** Answers with an image's passphrase, or nothing if there is none; may ask a person and so take its time. */
export type SecretCallback = (request: SecretRequest) => Secret | undefined | PromiseLike<Secret | undefined>;

/** The form in which drivers ask. */
export function askSecret(secret: Secret | SecretCallback | undefined): AskSecret | undefined {
  if (secret === undefined) return undefined;
  return function* ask(request) {
    const answer = typeof secret === 'function' ? yield* wait(call(secret, request)) : secret;
    return typeof answer === 'string' ? utf8(answer) : answer;
  };
}

/** For an image that is made and then opened: what was answered for the new one is the answer for the one that is opened. */
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
