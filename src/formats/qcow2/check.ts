/**
 * Checking an image, and repairing it as far as possible: check-run.ts reads and reports, this file has the repairs and their order.
 *
 * Crash argument for repair. First the counts of clusters past the end of the file that nothing refers to go down, a new snapshot table takes the
 * place of a damaged one (mend-snapshots.ts), and bitmaps that cannot be read are given up. Then an entry that names a place off its cluster, with no
 * bytes in it, loses it. Then stored counts are mended: a count that is too low or too high is so before and after a cut; the references to a cluster
 * do not change here. Flags come last. Each stage is behind a flush, and each finds the state that the one before it left: repeating an interrupted repair
 * completes it. A refcount structure that contradicts itself is replaced as a whole (rebuild.ts).
 */
import { corrupt } from '../../base/errors.ts';
import type { Io } from '../../base/io.ts';
import type { Locked } from '../../tables/table-cache.ts';
import type { CheckOptions, CheckResult } from '../tools.ts';
import { compareFlags } from './check-flags.ts';
import { CheckPace } from './check-pace.ts';
import { CheckRun } from './check-run.ts';
import { NO_BITMAPS } from './file-tables.ts';
import { canRewrite, rewriteHeader } from './header.ts';
import { AUTOCLEAR, EXTENSION, FORMAT, INCOMPATIBLE } from './layout.ts';
import { mendSnapshots } from './mend-snapshots.ts';
import type { Metadata } from './metadata.ts';
import { rebuildRefcounts } from './rebuild.ts';

type Repair = CheckOptions['repair'];

/**
 * See `ImageDriver.check`. A repair holds `Metadata.lock` all the time. A check without repair holds it only while a table is read in, so that reads of the
 * guest go on beside it; the caller makes sure that no change is under way.
 */
export function* check(meta: Metadata, options: CheckOptions): Io<CheckResult> {
  if (options.repair) return yield* meta.lock.run(() => checkHeld(meta, options, (step) => step()));
  return yield* checkHeld(meta, options, (step) => meta.lock.run(step));
}

function* checkHeld(meta: Metadata, options: CheckOptions, locked: Locked): Io<CheckResult> {
  if (!meta.storage.readOnly) yield* locked(() => meta.flush());
  // Nothing else refers to the clusters that a cut-off L1 table named: they are all that is left of the disk, and stay as they are.
  const lost = meta.l1.known < meta.l1.size;
  const { repair: asked, ...looking } = options;
  const repair = lost ? undefined : asked;
  const run = new CheckRun(meta, lost ? looking : options, { locked, pace: new CheckPace(meta, options) });
  if (lost && asked) run.say('Nothing is repaired: what can still be read is kept by converting the image');
  if (repair) yield* prepare(meta, run, repair);
  yield* run.countReferences();
  // Entries that were mended must be durable before the counts of the clusters they named go down.
  if (run.result.corruptionsFixed > 0) yield* locked(() => meta.flush());
  const found = { ...run.result };
  const structureSound = yield* run.compareCounts({ leaks: false, errors: false });
  if (repair && !structureSound) {
    if (repair === 'leaks') {
      run.say('ERROR need to rebuild refcount structures');
      throw corrupt(FORMAT, 'the refcount structure contradicts itself and must be rebuilt: repair everything, not leaks only', {
        field: 'refcount_table',
      });
    }
    return yield* rebuild(meta, options, run);
  }
  // Clusters without references may belong to a snapshot or a bitmap that could not be read.
  const leaks = !meta.bitmapFault && meta.snapshotTable.faults.every(({ harmless }) => harmless);
  if (repair && ((leaks && run.result.leaks > 0) || run.result.corruptions > 0)) {
    Object.assign(run.result, found, { messages: run.result.messages });
    yield* run.compareCounts({ leaks, errors: repair === 'all' });
    yield* meta.flush();
  }
  if (repair && !leaks && run.result.leaks > 0)
    run.say('Leaked clusters are left alone: they may be those of snapshots or bitmaps that cannot be read');
  return yield* finish(meta, run, repair);
}

/** The work of a repair before it counts: new structures must find their place, at the end of the file. */
function* prepare(meta: Metadata, run: CheckRun, repair: Repair): Io<void> {
  const { result } = run;
  const contents = new CheckRun(meta, {}, run.work);
  yield* contents.countReferences();
  const named = contents.placesPastEnd();
  if (contents.structureSound) {
    const cleared = yield* meta.refcounts.clearFrom(Math.max(contents.fileClusters, contents.references.end), named);
    if (cleared > 0) run.say(`Repairing ${cleared} clusters past the end of the file: counted, but nothing refers to them`);
    result.leaksFixed += cleared;
    yield* meta.flush();
  }
  if (repair !== 'all') return;
  yield* dropBitmaps(meta, run);
  const { faults } = meta.snapshotTable;
  if (faults.length === 0) return;
  for (const { repaired, count } of faults) {
    run.say(repaired);
    result.corruptionsFixed += count;
  }
  yield* mendSnapshots(meta, contents, named);
}

/**
 * Takes bitmaps that cannot be read out of the header; only a backup that would have used them takes longer then. One write of the first sector
 * (header.ts) does it, and their clusters are leaks.
 */
function* dropBitmaps(meta: Metadata, run: CheckRun): Io<void> {
  const { bitmapFault, header } = meta;
  if (bitmapFault?.kind !== 'corrupt' || !canRewrite(header)) return;
  run.say(`Discarding the bitmaps: ${bitmapFault.message}`);
  const extensions = header.extensions.filter(({ type }) => type !== EXTENSION.bitmaps);
  yield* rewriteHeader(meta, { extensions, autoclear: header.autoclear & ~AUTOCLEAR.bitmaps });
  meta.adoptBitmaps(NO_BITMAPS);
  run.result.corruptionsFixed++;
}

/** Replaces the refcount structure and counts anew: faults that are gone were fixed. */
function* rebuild(meta: Metadata, options: CheckOptions, { result: before, work }: CheckRun): Io<CheckResult> {
  // The clusters of the old structure are counted at first, and then found to be unused: QEMU does it in this way.
  const contents = new CheckRun(meta, {}, work);
  yield* contents.countReferences();
  yield* rebuildRefcounts(meta, contents.references, { named: contents.placesPastEnd() });
  const run = new CheckRun(meta, options, work);
  run.result.messages.push(...before.messages);
  run.say('Rebuilding refcount structure');
  yield* run.countReferences();
  // A place past the end that a damaged entry names may now be inside the file: then it is counted.
  yield* run.compareCounts({ leaks: true, errors: true, missing: true });
  run.result.corruptionsFixed = before.corruptionsFixed + Math.max(0, before.corruptions - run.result.corruptions);
  run.result.leaksFixed = before.leaksFixed + Math.max(0, before.leaks - run.result.leaks);
  return yield* finish(meta, run, 'all');
}

function* finish(meta: Metadata, run: CheckRun, repair: Repair): Io<CheckResult> {
  const { result } = run;
  // Flags follow the counts, so these must be right; as in QEMU, a repair of everything does not wait for that.
  const sure = result.corruptions === 0 && result.leaks === 0 && result.checkErrors === 0;
  yield* compareFlags(meta, run, repair === 'all' || (repair === 'leaks' && sure));
  if (repair === 'all' && result.corruptions === 0 && result.checkErrors === 0) yield* clearMarks(meta);
  run.work.pace.finish();
  return result;
}

/** A repaired image is neither dirty nor corrupt. */
function* clearMarks(meta: Metadata): Io<void> {
  yield* meta.flushCounts();
  meta.forRepair = false;
  const { incompatible } = meta.header;
  if ((incompatible & INCOMPATIBLE.corrupt) !== 0) yield* meta.setFeatures({ incompatible: incompatible & ~INCOMPATIBLE.corrupt });
}
