/** Snapshots as a table, for `snapshot -l` and `info`. Dates are local time. */
import { type DiskInfo, formatSize } from '../index.ts';

type Snapshots = NonNullable<DiskInfo['snapshots']>;

/** The table with its heading. */
export function snapshotTable(snapshots: Snapshots): string {
  const head = `${'ID'.padEnd(10)}${'TAG'.padEnd(17)}${'VM SIZE'.padStart(8)}${'DATE'.padStart(20)}${'VM CLOCK'.padStart(13)}${'ICOUNT'.padStart(11)}`;
  return ['Snapshot list:', head, ...snapshots.map(row), ''].join('\n');
}

function row(snapshot: Snapshots[number]): string {
  const { id, name, icount } = snapshot;
  const size = formatSize(snapshot['vm-state-size']);
  const columns = [
    id.padEnd(9),
    ' ',
    name.padEnd(16),
    ' ',
    size.padStart(8),
    localTime(snapshot['date-sec']).padStart(20),
    clock(snapshot['vm-clock-sec'], snapshot['vm-clock-nsec']).padStart(13),
    (icount === undefined ? '' : String(icount)).padStart(11),
  ];
  return columns.join('');
}

const two = (value: number): string => String(value).padStart(2, '0');

function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function clock(seconds: number, nanoseconds: number): string {
  const milliseconds = String(Math.floor(nanoseconds / 1_000_000)).padStart(3, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${milliseconds}`;
}
