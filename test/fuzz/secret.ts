/** The passphrase of every encrypted image. */
export const SECRET = 'passphrase';
