/** Written by `node bench/search.js --table` from bench/results/best-search.jsonl; docs/best.md says what it covers. */
export const bestTable = {
  trainings: 25,
  texts: [50000, 144424, 400000, 1115394],
  mostCharacters: 2880000,
  rootMeanSquare: 0.03562,
  law: {
    capacity: 2.566,
    capacityPower: 0.2217,
    data: 1716,
    dataPower: 0.5323,
    sizePower: 0.08755,
    repetitions: 23.53,
    batchPower: 0.5,
  },
  recipes: [
    {
      layers: 2,
      hidden: 64,
      dropout: 0.1,
      batchSize: 16,
      seqLength: 32,
      learningRate: 0.008,
    },
    {
      layers: 2,
      hidden: 128,
      dropout: 0.2,
      batchSize: 16,
      seqLength: 32,
      learningRate: 0.005,
    },
    {
      layers: 2,
      hidden: 256,
      dropout: 0.3,
      batchSize: 16,
      seqLength: 32,
      learningRate: 0.005,
    },
  ],
};
