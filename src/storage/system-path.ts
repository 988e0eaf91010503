/** Names of files as Node's functions take them. Apart from the entry for Node, whose types must do without those of Node. */
import { utf8 } from '../base/bytes.ts';

/** A name for Node's functions. Names that are not UTF-8 are kept as `text` of base/bytes.ts keeps them, and become the bytes that they were. */
export const systemPath = (name: string): Buffer => Buffer.from(utf8(name));
