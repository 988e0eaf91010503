/** Facts about an opened image, in the shape of `qemu-img info --output=json` (QEMU 7.2). */
import type { Io } from '../base/io.ts';
import type { SnapshotInfo } from '../formats/driver.ts';
import type { BlockNode } from '../node/node.ts';

/** A snapshot as qemu-img's JSON has it. */
export interface DiskInfoSnapshot {
  readonly id: string;
  readonly name: string;
  readonly 'vm-state-size': number;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly 'vm-clock-nsec': number;
  readonly icount?: number;
}

/** `qemu-img info --output=json`, key by key. Sizes are bytes. */
export interface DiskInfo {
  readonly filename: string;
  readonly format: string;
  readonly 'virtual-size': number;
  readonly 'actual-size': number;
  readonly 'dirty-flag': boolean;
  readonly 'cluster-size'?: number;
  readonly encrypted?: boolean;
  readonly compressed?: boolean;
  readonly 'backing-filename'?: string;
  readonly 'full-backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly snapshots?: readonly DiskInfoSnapshot[];
  readonly 'format-specific'?: { readonly type: string; readonly data: Readonly<Record<string, unknown>> };
}

/** Collects the facts; waits only for the storage's allocated size. */
export function* diskInfo(node: BlockNode): Io<DiskInfo> {
  const { driver } = node;
  const facts = driver.info();
  const snapshots = driver.snapshots ?? [];
  return {
    filename: node.fileName ?? node.name,
    format: driver.format,
    'virtual-size': driver.size,
    'actual-size': yield* node.allocatedSize(),
    'dirty-flag': facts.dirty ?? false,
    ...(facts.clusterSize === undefined ? {} : { 'cluster-size': facts.clusterSize }),
    ...(facts.encrypted ? { encrypted: true } : {}),
    ...(facts.compressed ? { compressed: true } : {}),
    ...(driver.backing ? { 'backing-filename': driver.backing.name } : {}),
    ...(node.backing ? { 'full-backing-filename': node.backing.fileName ?? node.backing.name } : {}),
    ...(driver.backing?.format ? { 'backing-filename-format': driver.backing.format } : {}),
    ...(snapshots.length > 0 ? { snapshots: snapshots.map(snapshotInfo) } : {}),
    ...(facts.specific ? { 'format-specific': { type: driver.format, data: facts.specific } } : {}),
  };
}

function snapshotInfo(snapshot: SnapshotInfo): DiskInfoSnapshot {
  const second = 1_000_000_000;
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': Math.floor(snapshot.vmClockNanoseconds / second),
    'vm-clock-nsec': snapshot.vmClockNanoseconds % second,
    ...(snapshot.icount === undefined ? {} : { icount: snapshot.icount }),
  };
}
