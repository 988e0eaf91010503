/**
 * Keys of encrypted images that were opened without them (`OpenOptions.keyLater`), for a chain as a whole. QEMU's 2011 functions looked at an image and
 * the one right below it; reads go to the chain's end, and so do these functions.
 */
import { DiskError } from '../base/errors.ts';
import type { Io } from '../base/io.ts';
import { passphraseFor } from '../crypto/passphrase.ts';
import type { KeyDriver } from '../formats/driver.ts';
import type { BlockNode } from '../node/node.ts';
import { askSecret, type Secret, type SecretCallback } from './secrets.ts';

interface EncryptedNode {
  readonly node: BlockNode;
  readonly key: KeyDriver;
}

/** The encrypted images of a chain, the deepest first. */
function encryptedNodes(top: BlockNode): EncryptedNode[] {
  const found: EncryptedNode[] = [];
  for (let node: BlockNode | undefined = top; node; node = node.backing) {
    while (node.filtered) node = node.filtered;
    const { key } = node.driver;
    if (key) found.unshift({ node, key });
  }
  return found;
}

/** Some image of the chain is encrypted. */
export const isEncrypted = (top: BlockNode): boolean => encryptedNodes(top).length > 0;

/** Names of the images whose key is missing, the deepest first. */
export const missingKeys = (top: BlockNode): string[] => encryptedNodes(top).flatMap(({ node, key }) => (key.valid ? [] : [node.name]));

/** The image that a person has to be asked about: the backing file if that is encrypted, else the image itself. */
export function encryptedFile(top: BlockNode): string | undefined {
  return encryptedNodes(top)[0]?.node.name;
}

/**
 * Gives every encrypted image of the chain its key, the deepest first. Stops at the first that refuses, which then has no key. Throws `refused` if
 * nothing is encrypted, or for a passphrase that does not fit or is missing.
 */
export function* setKeys(top: BlockNode, secret: Secret | SecretCallback): Io<void> {
  const images = encryptedNodes(top);
  if (images.length === 0) throw new DiskError('refused', `${top.name} is not encrypted: it takes no key`, { field: 'key-secret' });
  const ask = askSecret(secret);
  for (const { node, key } of images) {
    const { format } = node.driver;
    const request = { image: node.name, format, encryption: key.method };
    const passphrase = yield* passphraseFor(ask, request, key.option);
    yield* node.unchanging(() => key.set(passphrase));
  }
}
