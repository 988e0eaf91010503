/** A fuzzing process for command lines: runs the cases it is told to and reports each, so that the parent sees which one hangs. */
import { Playground } from './command-line.ts';

const playground = await Playground.make();
process.on('disconnect', () => {
  playground.remove();
  process.exit();
});
process.on('message', async ({ from, to }: { from: number; to: number }) => {
  for (let number = from; number < to; number++) {
    process.send?.({ kind: 'begin', number });
    const finding = await playground.runCase(number);
    if (finding) process.send?.({ kind: 'finding', number, image: JSON.stringify(finding.words), what: finding.what });
  }
  process.send?.({ kind: 'done', to });
});
process.send?.({ kind: 'ready' });
