/** Written by `node bench/search.js --table` from bench/results/best-search.jsonl; docs/best.md says what it covers. */
export const bestTable = {
  trainings: 165,
  texts: [50000, 144424, 400000, 1115394],
  mostCharacters: 16061674,
  rootMeanSquare: 0.01627,
  law: {
    dataPower: 0.575,
    repetitions: 12.23,
  },
  recipes: [
    {
      recipe: {
        layers: 1,
        hidden: 64,
        dropout: 0.1,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.04,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.3575,
        data: 0.4588,
        overfit: 0.003139,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 128,
        dropout: 0.1,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.03,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.1921,
        data: 0.57,
        overfit: 0.007619,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 256,
        dropout: 0.1,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.02,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.1178,
        data: 0.5754,
        overfit: 0.008169,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 256,
        dropout: 0.25,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.02,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.1081,
        data: 0.6449,
        overfit: 0.006154,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 256,
        dropout: 0.4,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.015,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.114,
        data: 0.7055,
        overfit: 0.002904,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 384,
        dropout: 0.2,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.02,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.09998,
        data: 0.5538,
        overfit: 0.008474,
      },
    },
    {
      recipe: {
        layers: 1,
        hidden: 512,
        dropout: 0.2,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.02,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.0756,
        data: 0.5589,
        overfit: 0.01064,
      },
    },
    {
      recipe: {
        layers: 2,
        hidden: 128,
        dropout: 0.1,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.02,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.1498,
        data: 0.6354,
        overfit: 0.005242,
      },
    },
    {
      recipe: {
        layers: 2,
        hidden: 128,
        dropout: 0.3,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.012,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.1258,
        data: 0.8966,
        overfit: 0.001594,
      },
    },
    {
      recipe: {
        layers: 2,
        hidden: 256,
        dropout: 0.2,
        batchSize: 16,
        seqLength: 16,
        learningRate: 0.012,
        weightDecay: 0,
      },
      curve: {
        capacity: 0.07397,
        data: 0.6451,
        overfit: 0.007437,
      },
    },
    {
      recipe: {
        layers: 2,
        hidden: 256,
        dropout: 0.2,
        batchSize: 16,
        seqLength: 20,
        learningRate: 0.005,
        weightDecay: 0.05,
      },
      curve: {
        capacity: 0,
        data: 0.9386,
        overfit: 0.006023,
      },
    },
  ],
};
