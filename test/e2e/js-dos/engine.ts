import '../../../src/worker/index.ts';
