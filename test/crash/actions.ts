/** What a guest does in the workloads, at random. */
import type { Random } from '../random.ts';
import type { Guest } from './guest.ts';

/** A random range of sectors, often a whole number of clusters long or nearly so. */
export function range(guest: Guest, random: Random, most: number): [number, number] {
  const sector = random.between(0, guest.sectors - 1);
  return [sector, Math.min(guest.sectors - sector, random.between(1, most))];
}

export async function writes(guest: Guest, random: Random, { count, most }: { count: number; most: number }): Promise<void> {
  for (let i = 0; i < count; i++) {
    await guest.write(...range(guest, random, most));
    if (random.chance(0.15)) await guest.flush();
  }
}

/** Rounds of writes and flushes that are under way together. */
export async function several(guest: Guest, random: Random, most: number): Promise<void> {
  for (let round = 0; round < 8; round++) {
    const requests: ([number, number] | 'flush')[] = [];
    for (let sector = random.between(0, most); sector < guest.sectors; sector += random.between(0, 4 * most)) {
      const count = Math.min(random.between(1, most), guest.sectors - sector);
      requests.push([sector, count]);
      sector += count;
    }
    const mixed = requests.map((request) => ({ request, order: random.between(0, 1_000_000) })).sort((a, b) => a.order - b.order);
    await guest.several(
      mixed.flatMap(({ request }) => (random.chance(0.25) ? [request, 'flush'] : [request])),
      () => random.between(0, 12),
    );
    if (random.chance(0.5)) await guest.flush();
    // What is written from then on goes to new places.
    if (guest.hasSnapshots && round % 3 === 1) await guest.snapshot(`s${round}`);
  }
}

interface Mixture {
  readonly count: number;
  readonly most: number;
  readonly cluster: number;
  /** False where a discard shows the backing file, or need not. */
  readonly discards?: boolean;
}

export async function mixture(guest: Guest, random: Random, { count, most, cluster, discards = true }: Mixture): Promise<void> {
  for (let i = 0; i < count; i++) {
    const what = random.pick(discards ? (['write', 'write', 'zero', 'discard'] as const) : (['write', 'zero'] as const));
    if (what === 'write') await guest.write(...range(guest, random, most));
    else if (what === 'zero') await guest.zero(...range(guest, random, 4 * most), random.chance(0.5));
    else await guest.discard(...range(guest, random, 4 * most), cluster);
    if (random.chance(0.2)) await guest.flush();
  }
}

export async function snapshots(guest: Guest, random: Random, most: number): Promise<void> {
  const names: string[] = [];
  for (let i = 0; i < 8; i++) {
    await writes(guest, random, { count: 4, most });
    const what = names.length < 2 ? 'create' : random.pick(['create', 'apply', 'delete'] as const);
    const name = what === 'create' ? `s${i}` : random.pick(names);
    if (what === 'create') names.push(name);
    if (what === 'delete') names.splice(names.indexOf(name), 1);
    if (what === 'create') await guest.snapshot(name);
    else if (what === 'apply') await guest.apply(name);
    else await guest.delete(name);
  }
}

/** Snapshots with machine state, brought back and deleted; state that none takes over; and the disk grows over where it lay. */
export async function machines(guest: Guest, random: Random, most: number): Promise<void> {
  const names: string[] = [];
  for (let i = 0; i < 9; i++) {
    await writes(guest, random, { count: 3, most });
    const bytes = random.between(1, 60_000);
    const what = names.length < 2 ? 'create' : random.pick(['create', 'apply', 'delete', 'stray', 'resize'] as const);
    if (what === 'create') names.push(`m${i}=${bytes}`);
    if (what === 'create') await guest.snapshotWithState(`m${i}`, bytes);
    else if (what === 'apply') await guest.apply(random.pick(names));
    else if (what === 'delete') await guest.delete(names.splice(random.between(0, names.length - 1), 1)[0] as string);
    else if (what === 'stray') await guest.writeState(random.between(0, 20_000), bytes);
    else await guest.resize(guest.sectors + random.between(1, 300));
  }
}

interface Amendments {
  readonly cluster: number;
  readonly snapshots: boolean;
  readonly discards: boolean;
}

/** Other versions and widths of reference counts between writes, zeroes and (where the version allows them) snapshots. */
export async function amendments(guest: Guest, random: Random, { cluster, snapshots, discards }: Amendments): Promise<void> {
  for (let i = 0; i < 7; i++) {
    await mixture(guest, random, { count: 6, most: 12, cluster, discards });
    if (snapshots && i < 4) await guest.snapshot(`s${i}`);
    await mixture(guest, random, { count: 3, most: 12, cluster, discards });
    if (i % 2 === 0) await guest.amend({ compat: '0.10', refcount_bits: 16 });
    // A snapshot's cluster may have as many references as there are snapshots and the disk.
    else
      await guest.amend({ compat: '1.1', refcount_bits: random.pick(snapshots ? [4, 8, 64] : [1, 2, 32, 64]), lazy_refcounts: random.chance(0.5) });
  }
}

/** Compressed clusters, packed, written over in every way. */
export async function compressed(
  guest: Guest,
  random: Random,
  { count, cluster, discards = true }: Pick<Mixture, 'count' | 'cluster' | 'discards'>,
): Promise<void> {
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const sector = random.between(0, Math.floor((guest.sectors - 1) / cluster)) * cluster;
    await guest.writeCompressed(sector, Math.min(guest.sectors - sector, random.between(1, 5) * cluster));
    const what = random.pick(['nothing', 'nothing', 'write', 'zero', 'discard', 'create', 'apply', 'delete'] as const);
    if (what === 'write') await guest.write(...range(guest, random, 2 * cluster));
    else if (what === 'zero') await guest.zero(...range(guest, random, 4 * cluster), random.chance(0.5));
    else if (what === 'discard' && discards) await guest.discard(...range(guest, random, 4 * cluster), cluster);
    else if (what === 'create' && names.length < 3 && guest.hasSnapshots) {
      names.push(`s${i}`);
      await guest.snapshot(`s${i}`);
    } else if (what === 'apply' && names.length > 0) await guest.apply(random.pick(names));
    else if (what === 'delete' && names.length > 0) await guest.delete(names.splice(random.between(0, names.length - 1), 1)[0] as string);
    if (random.chance(0.2)) await guest.flush();
  }
}

/** Small changes, so that clusters are alive in part, over snapshots and compressed clusters. */
export async function subclusters(guest: Guest, random: Random, { cluster, snapshots }: { cluster: number; snapshots: boolean }): Promise<void> {
  const names: string[] = [];
  for (let i = 0; i < 9; i++) {
    await mixture(guest, random, { count: 7, most: cluster / 4, cluster });
    const sector = random.between(0, Math.floor((guest.sectors - 1) / cluster)) * cluster;
    if (random.chance(0.4)) await guest.writeCompressed(sector, Math.min(guest.sectors - sector, cluster));
    if (!snapshots) continue;
    const what = names.length < 2 ? 'create' : random.pick(['create', 'apply', 'delete'] as const);
    if (what === 'create') {
      names.push(`s${i}`);
      await guest.snapshot(`s${i}`);
    } else if (what === 'apply') await guest.apply(random.pick(names));
    else await guest.delete(names.splice(random.between(0, names.length - 1), 1)[0] as string);
  }
}

/** What a guest does between two steps of a job. */
export function besides(guest: Guest, random: Random): () => void {
  return () => {
    if (random.chance(0.35)) void guest.write(...range(guest, random, 9));
    if (random.chance(0.1)) void guest.zero(...range(guest, random, 30), random.chance(0.5));
    if (random.chance(0.1)) guest.flushNow();
  };
}

/** Much that a snapshot does not have, and some that it has again; what changed since each must be told after any cut. */
export async function changes(guest: Guest, random: Random, { cluster, resizes }: { cluster: number; resizes: boolean }): Promise<void> {
  for (let i = 0; i < 4; i++) {
    await mixture(guest, random, { count: 5, most: 2 * cluster, cluster, discards: resizes });
    await guest.snapshot(`s${i}`);
    await mixture(guest, random, { count: 3, most: cluster, cluster, discards: resizes });
    const sector = random.between(0, Math.floor((guest.sectors - 1) / cluster)) * cluster;
    await guest.writeCompressed(sector, Math.min(guest.sectors - sector, cluster));
    if (resizes) for (let times = 0; times < 2; times++) await guest.resize(random.between(60, 400));
    if (i % 2 === 1) await guest.apply(`s${random.between(0, i)}`);
  }
  await guest.delete('s1');
}

/** Sessions: each writes while bitmaps note it, changes them, and ends with the image closed. */
export async function bitmaps(guest: Guest, random: Random, cluster: number): Promise<void> {
  for (let session = 0; session < 5; session++) {
    for (let i = 0; i < 3; i++) {
      await mixture(guest, random, { count: 3, most: 20, cluster });
      const { names } = guest.bitmaps;
      const what = names.length < 2 ? 'add' : random.pick(['add', 'clear', 'merge', 'remove', 'resize', 'nothing'] as const);
      const name = random.pick(names.length > 0 ? names : ['']);
      if (what === 'add' && names.length < 4) await guest.addBitmap(`b${session}.${i}`, random.pick([512, 512, 4096, 65536]));
      else if (what === 'clear') await guest.clearBitmap(name);
      else if (what === 'merge') await guest.mergeBitmap(name, random.pick(names));
      else if (what === 'remove') await guest.removeBitmap(name);
      else if (what === 'resize') await guest.resize(random.between(100, 5000 / Math.min(5, cluster)));
    }
    await guest.reopen();
  }
}
