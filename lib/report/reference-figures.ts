/**
 * The figures of the reference's three runs, as it reports them. The reference is the Keras reproduction of "Text Generation With LSTM" on
 * Alice in Wonderland that preset `proj-basic` repeats (docs/reproduction.md).
 */

/** One row of the reference's notes, in its own words where it gives no number. */
export interface ReferenceRun {
  epochs: number;
  bestEpoch: number;
  bestLoss: number;
  runTime: string;
  secondsPerEpoch: string;
  utilisation: string;
  memory: string;
}

export const referenceRuns: readonly ReferenceRun[] = [
  {
    epochs: 50,
    bestEpoch: 49,
    bestLoss: 1.2534,
    runTime: 'about 7 h',
    secondsPerEpoch: '398, 180, 464, 467, 462, ...',
    utilisation: 'GPU 30 %',
    memory: '10.3 GB',
  },
  {
    epochs: 100,
    bestEpoch: 70,
    bestLoss: 1.2341,
    runTime: '42,012 s',
    secondsPerEpoch: '405 to 420',
    utilisation: 'GPU 40 %',
    memory: 'not reported',
  },
  {
    epochs: 200,
    bestEpoch: 60,
    bestLoss: 1.2428,
    runTime: '80,993 s',
    secondsPerEpoch: '405 to 420',
    utilisation: 'not reported',
    memory: 'not reported',
  },
];

/** What every text it prints looks like. */
export const referenceSample = "loops: the sea. 'it it it ...";

/** Its model, and the number of steps of its recipe on its text. */
export const referenceModel = { device: 'a GPU', parameters: 801_583, stepsPerEpoch: 2_256 };

/** The text it was trained on, lower-cased. */
export const referenceCorpus = { characters: 144_424, symbols: 47 };
