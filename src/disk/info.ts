/** Facts about an opened image, in the shape of `qemu-img info --output=json` (QEMU 7.2). */
import type { Io } from '../base/io.ts';
import type { SnapshotInfo } from '../formats/driver.ts';
import type { BlockNode } from '../node/node.ts';

/** A snapshot as qemu-img's JSON has it. */
export interface DiskInfoSnapshot {
  /** Unique in the image. */
  readonly id: string;
  /** The name that the user gave. */
  readonly name: string;
  /** Bytes of machine state. */
  readonly 'vm-state-size': number;
  /** Seconds since 1970-01-01 UTC. */
  readonly 'date-sec': number;
  /** Nanoseconds beyond. */
  readonly 'date-nsec': number;
  /** Guest clock: seconds since power-on. */
  readonly 'vm-clock-sec': number;
  /** Nanoseconds beyond. */
  readonly 'vm-clock-nsec': number;
  /** Instructions executed, if the emulator counted them. */
  readonly icount?: number;
}

/** `qemu-img info --output=json`, key by key. Sizes are bytes. */
export interface DiskInfo {
  /** Name of the storage. */
  readonly filename: string;
  /** QEMU's name of the format. */
  readonly format: string;
  /** Bytes that the guest sees. */
  readonly 'virtual-size': number;
  /** Bytes that the storage really occupies. */
  readonly 'actual-size': number;
  /** The image was not closed properly. */
  readonly 'dirty-flag'?: boolean;
  /** Bytes, if the format has clusters. */
  readonly 'cluster-size'?: number;
  /** Present if the image is encrypted. */
  readonly encrypted?: boolean;
  /** Present if the format compresses all data. */
  readonly compressed?: boolean;
  /** As stored in the image; absent if the image knows the one below by its id alone. */
  readonly 'backing-filename'?: string;
  /** The name under which the backing file was opened, if it was. */
  readonly 'full-backing-filename'?: string;
  /** Its format, as stored in the image. */
  readonly 'backing-filename-format'?: string;
  /** Present if the image has some. */
  readonly snapshots?: readonly DiskInfoSnapshot[];
  /** The facts that QEMU shows for this format alone. */
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
    ...(facts.dirty === 'unknown' ? {} : { 'dirty-flag': facts.dirty ?? false }),
    ...(facts.clusterSize === undefined ? {} : { 'cluster-size': facts.clusterSize }),
    ...(facts.encrypted ? { encrypted: true } : {}),
    ...(facts.compressed ? { compressed: true } : {}),
    ...(driver.backing && driver.backing.name !== '' ? { 'backing-filename': driver.backing.name } : {}),
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
