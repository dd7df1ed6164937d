import fc from 'fast-check';

/** A machine with two busy cores runs these; the seed is printed when one fails. */
fc.configureGlobal({ numRuns: 60, interruptAfterTimeLimit: 12_000, markInterruptAsFailure: false });

export { fc };
