/** The record of an image in the list, its formats and its places. */
import type { OpenedFormat } from '../formats/all.ts';

/** The place where an image is kept; `memory` is the engine's memory, and ends with it. */
export type Place = 'opfs' | 'indexeddb' | 'memory';

/** The formats of images that are kept. */
export type ImageFormat = OpenedFormat;

/** The image below, as an image names it. */
export interface BackingName {
  readonly name: string;
  /** See `FileRequest.identity`. */
  readonly identity?: string;
}

/** The facts about an image that the library knows without opening it. */
export interface ImageRecord {
  readonly id: string;
  readonly name: string;
  readonly format: ImageFormat;
  /** Missing in records of earlier versions. */
  readonly encrypted?: boolean;
  readonly place: Place;
  /** The id of the image that it lies over, if there is one. */
  readonly backing?: string | undefined;
  /** What the image itself calls the image below, if that is not its id: the image was brought in with it. */
  readonly backingName?: BackingName | undefined;
  /** When its bytes were replaced by others, in milliseconds since 1970; see `bytesOf`. Missing if they never were. */
  readonly replaced?: number | undefined;
  /** Guest-visible bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  readonly state: 'making' | 'ready' | 'deleting';
}

/** The facts about an image that are found out when it comes in. */
export interface MadeImage {
  /** Guest-visible bytes. */
  readonly size: number;
  readonly encrypted: boolean;
  /** If it is another one than was expected. */
  readonly format?: ImageFormat;
}

/** Between an image's id and the time at which these bytes replaced the ones before. */
const REPLACED = '~';

/** The name of an image's bytes in its place: its id, until they are replaced. */
export const bytesOf = ({ id, replaced }: Pick<ImageRecord, 'id' | 'replaced'>): string =>
  replaced === undefined ? id : `${id}${REPLACED}${replaced}`;

/** The id of the image that bytes in a place belong to, or belonged to. */
export const ownerOf = (bytes: string): string => bytes.split(REPLACED, 1)[0] as string;

/** The time in the name of bytes that were to replace others, in milliseconds since 1970. */
export function replacedAt(bytes: string): number | undefined {
  const time = bytes.slice(ownerOf(bytes).length + 1);
  return time === '' ? undefined : Number(time);
}
