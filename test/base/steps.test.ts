/** The failed step of a job, beside the field that the failure itself is about. */
import { expect, it } from 'vitest';
import { DiskError } from '../../src/base/errors.ts';
import { runAsync } from '../../src/base/io.ts';
import { placed } from '../../src/base/job.ts';

it('is named beside format and field of the failure, with its own offset, also across a worker', async () => {
  const first = new DiskError('corrupt', 'qcow2: an L2 entry is wrong', { format: 'qcow2', field: 'L2 entry', offset: 7 });
  const failed = runAsync(placed({ step: 'source', offset: 4096 }, failing(first)));
  const facts = { kind: 'corrupt', message: first.message, format: 'qcow2', field: 'L2 entry', step: 'source', offset: 4096 };
  await expect(failed).rejects.toMatchObject({ ...facts, cause: first });
  const error = await failed.catch((reason: DiskError) => reason);
  expect(DiskError.from(JSON.parse(JSON.stringify(error)))).toMatchObject(facts);
});

it('is not named for a job that was cancelled', async () => {
  const aborted = new DiskError('aborted', 'cancelled');
  await expect(runAsync(placed({ step: 'source', offset: 0 }, failing(aborted)))).rejects.toBe(aborted);
});

function* failing(error: DiskError): Generator<never, void> {
  throw error;
}
