/** Names for images that nobody named. */
import type { UnwrapKeeper } from './import-keeper.ts';

/** Characters in the name of an image. */
const LONGEST_NAME = 200;

/** A name for an image, with a number if it is taken. */
export async function freeName(wish: string, keeper: Pick<UnwrapKeeper, 'list'>): Promise<string> {
  const taken = new Set((await keeper.list()).map(({ name }) => name));
  const [, stem = '', ending = ''] = /^(.*?)(\.[^.]{0,16})?$/s.exec(wish) ?? [];
  for (let number = 1; ; number++) {
    const tail = `${number === 1 ? '' : ` ${number}`}${ending}`;
    const free = stem.slice(0, LONGEST_NAME - tail.length) + tail;
    if (!taken.has(free)) return free;
  }
}
