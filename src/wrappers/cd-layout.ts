/**
 * CDs as images of raw sectors (ECMA-130): the tracks that a cue sheet lists, and the places of 2048 bytes of data in sectors of each kind. Pure.
 */
import { view } from '../base/bytes.ts';
import { corrupt, unsupported } from '../base/errors.ts';

const FORMAT = 'cue';
/** Bytes of data in a sector, as disks have them. */
export const DATA = 2048;
const LARGEST_SHEET = 64 * 1024;
const MOST_TRACKS = 99;
const FRAMES = 75;
/** The pattern at the beginning of raw sectors. */
const SYNC = [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0];
const MODE_AT = 15;

/** How the sectors of a track lie in a file: bytes of each, and where data begins in it. */
export interface SectorForm {
  readonly size: number;
  readonly data: number;
}

const FORMS: Readonly<Record<string, SectorForm>> = {
  'MODE1/2048': { size: 2048, data: 0 },
  'MODE1/2352': { size: 2352, data: 16 },
  'MODE1/2448': { size: 2448, data: 16 },
  'MODE2/2048': { size: 2048, data: 0 },
  'MODE2/2336': { size: 2336, data: 8 },
  'MODE2/2352': { size: 2352, data: 24 },
  'MODE2/2448': { size: 2448, data: 24 },
};
/** Bytes of sectors that are no data. */
const OTHER: Readonly<Record<string, number>> = { AUDIO: 2352, CDG: 2448 };

/** The first data track of a CD. */
export interface DataTrack {
  /** The file that it is in. */
  readonly file: string;
  /** Bytes before it in the file. */
  readonly offset: number;
  readonly form: SectorForm;
  /** Bytes of the file that are its own; undefined: all that follow. */
  readonly length: number | undefined;
  /** Its number, from 1. */
  readonly number: number;
}

interface Track {
  readonly file: string;
  readonly number: number;
  readonly mode: string;
  /** Frames of its first index, and of its index 1, from the beginning of the file. */
  first: number | undefined;
  start: number | undefined;
}

/** Finds the first data track in a cue sheet. Throws `corrupt` or `unsupported`, naming the line's word. */
export function parseCue(source: string): DataTrack {
  if (source.length > LARGEST_SHEET) throw corrupt(FORMAT, `a cue sheet of ${source.length} characters`, { field: 'length' });
  const tracks = readTracks(source);
  const track = tracks.find(({ mode }) => FORMS[mode]);
  if (!track) {
    const other = tracks.find(({ mode }) => OTHER[mode] === undefined);
    if (other) throw unsupported(FORMAT, `track ${other.number} has sectors of the kind ${other.mode}`, { field: 'TRACK' });
    throw unsupported(FORMAT, `none of the ${tracks.length} tracks holds data: it is a CD of music`, { field: 'TRACK' });
  }
  const own = tracks.filter(({ file }) => file === track.file);
  const at = own.indexOf(track);
  const form = FORMS[track.mode] as SectorForm;
  const first = track.first ?? track.start ?? 0;
  const offset = placeOf(own, at) + ((track.start ?? first) - first) * form.size;
  const next = own[at + 1];
  const length = next === undefined ? undefined : placeOf(own, at + 1) - offset;
  if (length !== undefined && length < 0) throw corrupt(FORMAT, `track ${track.number} ends before it begins`, { field: 'INDEX' });
  return { file: track.file, offset, form, length, number: track.number };
}

/** Bytes before a track's first index in its file: sectors of the tracks before it may have other sizes. */
function placeOf(tracks: readonly Track[], index: number): number {
  let bytes = 0;
  let frames = 0;
  for (const [i, track] of tracks.slice(0, index + 1).entries()) {
    const first = track.first ?? track.start;
    if (first === undefined || first < frames) throw corrupt(FORMAT, `track ${track.number} has no place of its own`, { field: 'INDEX' });
    const before = tracks[i - 1];
    bytes += (first - frames) * (before ? sectorSize(before) : sectorSize(track));
    frames = first;
  }
  return bytes;
}

function sectorSize({ mode, number }: Track): number {
  const size = FORMS[mode]?.size ?? OTHER[mode];
  if (size === undefined) throw unsupported(FORMAT, `track ${number} has sectors of the kind ${mode}`, { field: 'TRACK' });
  return size;
}

function readTracks(source: string): Track[] {
  const tracks: Track[] = [];
  let file: string | undefined;
  for (const line of source.split(/\r\n|\r|\n/)) {
    const [, word = '', rest = ''] = /^\s*(\w+)\s*(.*?)\s*$/.exec(line) ?? [];
    if (word.toUpperCase() === 'FILE') file = fileName(rest);
    else if (word.toUpperCase() === 'TRACK') {
      const [, number = '', mode = ''] = /^(\d{1,3})\s+(\S+)$/.exec(rest) ?? [];
      if (file === undefined || number === '') throw corrupt(FORMAT, `a line ${JSON.stringify(line.trim().slice(0, 60))}`, { field: 'TRACK' });
      tracks.push({ file, number: Number(number), mode: mode.toUpperCase(), first: undefined, start: undefined });
      if (tracks.length > MOST_TRACKS) throw corrupt(FORMAT, `more than ${MOST_TRACKS} tracks`, { field: 'TRACK' });
    } else if (word.toUpperCase() === 'INDEX') {
      const track = tracks.at(-1);
      const [, index = '', minutes, seconds, frames] = /^(\d{1,2})\s+(\d{1,3}):(\d{1,2}):(\d{1,2})$/.exec(rest) ?? [];
      if (!track || index === '') throw corrupt(FORMAT, `a line ${JSON.stringify(line.trim().slice(0, 60))}`, { field: 'INDEX' });
      const place = (Number(minutes) * 60 + Number(seconds)) * FRAMES + Number(frames);
      track.first ??= place;
      if (Number(index) === 1) track.start = place;
    }
  }
  if (tracks.length === 0) throw corrupt(FORMAT, 'no track is listed', { field: 'TRACK' });
  return tracks;
}

function fileName(rest: string): string {
  const [, quoted, bare, kind = ''] = /^(?:"([^"]+)"|(\S+))\s+(\w+)$/.exec(rest) ?? [];
  const name = quoted ?? bare;
  if (name === undefined) throw corrupt(FORMAT, `a line FILE ${JSON.stringify(rest.slice(0, 60))}`, { field: 'FILE' });
  if (!/^(BINARY|MOTOROLA|WAVE|MP3|AIFF|FLAC)$/i.test(kind)) throw unsupported(FORMAT, `a file of the kind ${kind}`, { field: 'FILE' });
  return name;
}

/** True if these bytes are the beginning of a raw sector. */
export const hasSync = (bytes: Uint8Array): boolean => bytes.length > MODE_AT && SYNC.every((byte, i) => bytes[i] === byte);

/** How the raw sectors of a file lie that has no cue sheet, by its first bytes; undefined if they are no raw data sectors. */
export function rawForm(head: Uint8Array): SectorForm | undefined {
  if (!hasSync(head)) return undefined;
  const mode = view(head).getUint8(MODE_AT);
  if (mode !== 1 && mode !== 2) return undefined;
  // With a second sector it is known whether subchannels follow each.
  const size = head.length < 2448 + 16 || hasSync(head.subarray(2352)) ? 2352 : hasSync(head.subarray(2448)) ? 2448 : undefined;
  return size && { size, data: mode === 1 ? 16 : 24 };
}
