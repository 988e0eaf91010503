/** A layer that changes nothing: every verb goes to the storage below. Layers extend it and define only the verbs that differ. */
import type { Io } from '../base/io.ts';
import type { Keepers } from '../base/keepers.ts';
import type { LostListener } from '../base/loss.ts';
import type { Permissions } from '../base/permissions.ts';
import type { MemoryBudget, Storage, StorageExtent } from '../storage/storage.ts';

/** Passes everything on to `next`. */
export class FilterStorage implements Storage {
  /** The storage below. */
  readonly next: Storage;

  constructor(next: Storage) {
    this.next = next;
  }

  get name(): string {
    return this.next.name;
  }

  get size(): number {
    return this.next.size;
  }

  get modified(): number | undefined {
    return this.next.modified;
  }

  get readOnly(): boolean {
    return this.next.readOnly;
  }

  get synchronous(): boolean {
    return this.next.synchronous;
  }

  get sparse(): boolean {
    return this.next.sparse ?? false;
  }

  get mapReads(): boolean {
    return this.next.mapReads ?? false;
  }

  get memory(): MemoryBudget | undefined {
    return this.next.memory;
  }

  get keepers(): Keepers | undefined {
    return this.next.keepers;
  }

  /** The alignment of the storage below; a layer that makes other requests overrides it. */
  get requestAlignment(): number | undefined {
    return this.next.requestAlignment;
  }

  read(offset: number, into: Uint8Array): Io<void> {
    return this.next.read(offset, into);
  }

  write(offset: number, bytes: Uint8Array): Io<void> {
    return this.next.write(offset, bytes);
  }

  zero(offset: number, length: number, options?: { readonly unmap?: boolean }): Io<void> {
    return this.next.zero(offset, length, options);
  }

  discard(offset: number, length: number): Io<void> {
    return this.next.discard(offset, length);
  }

  truncate(size: number): Io<void> {
    return this.next.truncate(size);
  }

  map(offset: number, length: number): Io<StorageExtent> {
    return this.next.map(offset, length);
  }

  statusAsked(offset: number, length: number): void {
    this.next.statusAsked?.(offset, length);
  }

  barrier(): Io<void> {
    return this.next.barrier();
  }

  flush(): Io<void> {
    return this.next.flush();
  }

  *confirm(): Io<void> {
    if (this.next.confirm) yield* this.next.confirm();
  }

  onLost(listener: LostListener): () => void {
    return this.next.onLost?.(listener) ?? (() => undefined);
  }

  salvage(allowed: boolean): void {
    this.next.salvage?.(allowed);
  }

  close(): Io<void> {
    return this.next.close();
  }

  *permit(permissions: Permissions): Io<void> {
    if (this.next.permit) yield* this.next.permit(permissions);
  }

  *allocatedSize(): Io<number> {
    return this.next.allocatedSize ? yield* this.next.allocatedSize() : this.size;
  }
}
