// The CUDA backend on a GPU against the CPU backend: parity, repeat and resume, sampling, precisions, memory. Plain Node and the
// addon only, so that it runs on a bare machine, under compute-sanitizer (--quick), and on the tests' stand-in for a GPU.
//
//   node test/gpu/parity.js [--addon build/Release/cudnn_lstm.node] [--quick [--exhaust]]
//
// --quick leaves out what fills the GPU's memory, which takes minutes under a sanitizer; --exhaust puts it back.
const { join, resolve } = require('node:path');

const argument = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const quick = process.argv.includes('--quick');
const exhaust = !quick || process.argv.includes('--exhaust');
const addon = require(resolve(argument('--addon') ?? join(__dirname, '..', '..', 'build', 'Release', 'cudnn_lstm.node')));

const vocabulary = 47;
const size = quick ? { hidden: 20, steps: 7, batch: 11 } : { hidden: 64, steps: 20, batch: 33 };
const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };
let failures = 0;

function expect(ok, what) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}`);
  if (!ok) failures += 1;
}

// Logs how far apart the compared values are, since the machine may not be there to ask again.
function expectGap(gap, allowed, what) {
  expect(gap <= allowed, `${what} (${gap.toExponential(1)} of ${allowed.toExponential(0)})`);
}

// A small linear congruential generator: the same ids on every machine.
function makeIds(count, seed) {
  const ids = new Int32Array(count);
  let state = seed >>> 0;
  for (let i = 0; i < count; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    ids[i] = (state >>> 8) % vocabulary;
  }
  return ids;
}

const spec = (input, layers, dropout, hidden = size.hidden) => ({
  vocabulary,
  layers,
  hidden,
  input,
  embedding: input === 'embedding' ? 24 : 0,
  dropout,
  seed: 5,
});
const onGpu = (model, options = {}) =>
  addon.createModel(model, { device: 'cuda', precision: 'fp32', algorithm: 'standard', ...options });
const onCpu = (model) => addon.createModel(model, { device: 'cpu', threads: 2 });

function trainCall(steps, batch, count, target, carryState, seed = 1, rate = 1e-3) {
  return {
    ids: makeIds(count * (steps + 1) * batch, seed),
    count,
    steps,
    batch,
    target,
    carryState,
    learningRates: new Float64Array(count).fill(rate),
    ...adam,
    clip: 1,
  };
}

// max |a - b| / max |a|, for one parameter.
function difference(a, b, offset = 0, size = a.length) {
  let worst = 0;
  let largest = 1e-12;
  for (let i = offset; i < offset + size; i += 1) {
    const gap = Math.abs(a[i] - b[i]);
    worst = gap <= worst ? worst : gap;
    largest = Math.max(largest, Math.abs(a[i]));
  }
  return worst / largest;
}
const same = (a, b) => Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)) === 0;

async function parity() {
  const layers = quick ? [2] : [1, 2, 3];
  for (const input of ['scalar', 'onehot', 'embedding']) {
    for (const depth of layers) {
      for (const target of ['every', 'last']) {
        for (const carryState of [false, true]) {
          // Dropout uses the CPU's masks at every depth; without it cuDNN runs all layers in one call.
          const dropout = carryState || depth === 1 ? 0.3 : 0;
          const shape = spec(input, depth, dropout);
          const name = `${input}, ${depth} layers, dropout ${dropout}, ${target}${carryState ? ', carried' : ''}`;
          const [cpu, gpu] = [await onCpu(shape), await onGpu(shape)];
          await cpu.initialize();
          gpu.write('parameters', cpu.read('parameters'));
          const logits = { ids: makeIds(6 * 5, 3), streams: 5 };
          expectGap(difference(await cpu.logits(logits), await gpu.logits(logits)), 1e-5, `logits: ${name}`);
          const call = trainCall(size.steps, size.batch, 1, target, carryState);
          await cpu.trainSteps(call);
          await gpu.trainSteps(call);
          const [expected, found] = [cpu.read('gradients'), gpu.read('gradients')];
          for (const parameter of cpu.parameters) {
            const gap = difference(expected, found, parameter.offset, parameter.size);
            expectGap(gap, 1e-4, `gradient of ${parameter.name}: ${name}`);
          }
          const curve = trainCall(size.steps, size.batch, quick ? 9 : 40, target, carryState, 2);
          const [slow, fast] = [await cpu.trainSteps(curve), await gpu.trainSteps(curve)];
          expectGap(difference(slow.losses, fast.losses), 2e-3, `training curve: ${name}`);
          cpu.dispose();
          gpu.dispose();
        }
      }
    }
  }
}

const slots = ['parameters', 'firstMoments', 'secondMoments', 'trainingState'];

async function repeatAndResume(precision, algorithm) {
  const shape = spec('embedding', 2, 0.3);
  const options = { precision, algorithm };
  const { steps, batch } = size;
  const [all, cut] = quick ? [12, 5] : [30, 11];
  const call = (first, count) => {
    const whole = trainCall(steps, batch, all, 'every', true);
    return {
      ...whole,
      ids: whole.ids.slice(first * (steps + 1) * batch, (first + count) * (steps + 1) * batch),
      count,
      learningRates: whole.learningRates.slice(0, count),
    };
  };
  const once = await onGpu(shape, options);
  await once.initialize();
  const result = await once.trainSteps(call(0, all));
  // A run records what auto chose, so that noise does not change the bits when it is resumed.
  const { chosenAlgorithm } = once;
  const again = { ...options, ...(chosenAlgorithm && { chosenAlgorithm }) };
  const [twice, before] = [await onGpu(shape, again), await onGpu(shape, again)];
  for (const model of [twice, before]) await model.initialize();
  expect(result.completed === all && result.losses.every(Number.isFinite), `${precision}, ${algorithm}: ${all} steps`);
  await twice.trainSteps(call(0, all));
  expect(same(once.read('parameters'), twice.read('parameters')), `${precision}, ${algorithm}: repeats bit for bit`);
  await before.trainSteps(call(0, cut));
  const after = await onGpu(shape, again);
  for (const slot of slots) after.write(slot, before.read(slot));
  after.stepCount = before.stepCount;
  await after.trainSteps(call(cut, all - cut));
  for (const slot of slots) {
    expect(same(once.read(slot), after.read(slot)), `${precision}, ${algorithm}: resumed ${slot} are the same bits`);
  }
  // The masks are a function of the step alone, also in graphs: the third and later passes are replays.
  const masked = async (maskStep) => {
    const ids = makeIds((steps + 1) * batch, 4);
    return once.evaluate({ ids, steps, batch, target: 'every', carryState: false, dropout: true, maskStep });
  };
  const passes = [];
  for (const maskStep of [1, 2, 3, 1, 2, 3]) passes.push(await masked(maskStep));
  for (const i of [0, 1, 2]) {
    expect(same(passes[i], passes[i + 3]), `${precision}, ${algorithm}: the masks of step ${i + 1} repeat`);
    expect(!same(passes[i], passes[(i + 1) % 3]), `${precision}, ${algorithm}: step ${i + 1} has masks of its own`);
  }
  for (const model of [once, twice, before, after]) model.dispose();
  return result.losses[all - 1];
}

// Drawn on the device, by the host from the device's logits, and on the CPU: the same ids.
async function sampling() {
  const shape = spec('onehot', 2, 0.2);
  const [cpu, gpu] = [await onCpu(shape), await onGpu(shape)];
  await cpu.initialize();
  gpu.write('parameters', cpu.read('parameters'));
  const rules = { temperature: 0.8, topK: 20, topP: 0.95, minP: 0.001, penaltyWindow: 0, seed: 9, position: 5 };
  for (const streams of quick ? [1, 6] : [1, 64, 1024]) {
    const call = { sampling: rules, ids: makeIds(3 * streams, 8), streams, count: quick ? 20 : 100 };
    const drawn = await gpu.sample(call);
    // A penalty over no characters changes nothing, but makes the host draw.
    const byHost = await gpu.sample({ ...call, sampling: { ...rules, repetitionPenalty: 2 } });
    expect(same(drawn.ids, byHost.ids), `${streams} streams: the device draws what the host draws`);
    const onHost = await cpu.sample(call);
    const equal = drawn.ids.filter((id, i) => id === onHost.ids[i]).length;
    expect(equal >= 0.95 * drawn.ids.length, `${streams} streams: ${equal} of ${drawn.ids.length} ids are the CPU's`);
  }
  cpu.dispose();
  gpu.dispose();
}

// Odd sizes in 16 bits: h and c, and the ticks of a tensor, begin where no tensor core could read.
async function oddSizes(tensorCores) {
  for (const precision of ['fp32', 'fp16', ...(tensorCores ? ['bf16'] : [])]) {
    const allowed = { fp32: 1e-4, fp16: 2e-2, bf16: 1e-1 }[precision];
    for (const [layers, dropout] of [[1, 0], [2, 0], [2, 0.3]]) {
      const shape = spec('onehot', layers, dropout, 7);
      const name = `${precision}, ${layers} x 7, batch 3, dropout ${dropout}`;
      const [cpu, gpu] = [await onCpu(shape), await onGpu(shape, { precision })];
      await cpu.initialize();
      gpu.write('parameters', cpu.read('parameters'));
      for (const streams of [1, 3]) {
        const logits = { ids: makeIds(4 * streams, 3), streams };
        expectGap(difference(await cpu.logits(logits), await gpu.logits(logits)), allowed, `logits of ${streams}: ${name}`);
      }
      const call = trainCall(5, 3, 1, 'every', true);
      for (const model of [cpu, gpu]) await model.trainSteps(call);
      const [expected, found] = [cpu.read('gradients'), gpu.read('gradients')];
      for (const { name: parameter, offset, size: count } of cpu.parameters) {
        expectGap(difference(expected, found, offset, count), allowed, `gradient of ${parameter}: ${name}`);
      }
      expectGap(difference(cpu.read('trainingState'), gpu.read('trainingState')), allowed, `state: ${name}`);
      for (const model of [cpu, gpu]) model.dispose();
    }
  }
}

// Needs more memory than the GPU has.
async function exhaustion() {
  const shape = spec('onehot', 2, 0, 256);
  const model = await onGpu(shape);
  await model.initialize();
  const info = await addon.cudaInfo();
  // The LSTM's output alone would take all the memory.
  const batch = Math.ceil(info.devices[0].memoryBytes / (100 * 256 * 4));
  const error = await model.trainSteps(trainCall(100, batch, 1, 'last', false)).then(
    () => undefined,
    (caught) => caught,
  );
  expect(error?.code === 'ERR_OUT_OF_MEMORY', `too large a batch: ${error?.message}`);
  const small = await model.trainSteps(trainCall(8, 16, 2, 'last', false));
  expect(small.completed === 2, 'a smaller batch works after it');
  model.dispose();
}

async function memory() {
  const freeOf = async () => (await addon.cudaInfo()).devices[0].freeBytes;
  const cycle = async () => {
    const made = await onGpu(spec('onehot', 2, 0.2));
    await made.initialize();
    await made.trainSteps(trainCall(8, 16, 2, 'every', true));
    made.dispose();
  };
  for (let i = 0; i < 5; i += 1) await cycle();
  const start = await freeOf();
  for (let i = 0; i < (quick ? 5 : 100); i += 1) await cycle();
  const lost = start - (await freeOf());
  expect(lost < 32e6, `memory is back after many models (${(lost / 1e6).toFixed(1)} MB gone)`);
  const usage = await addon.gpuUsage(0);
  expect(usage?.name?.length > 0 && usage.memoryTotalBytes > 0, `usage: ${JSON.stringify(usage)}`);
}

async function main() {
  const info = await addon.cudaInfo();
  console.log(info.reason);
  if (!info.available) return 2;
  const model = await addon.createModel(spec('onehot', 1, 0), { device: 'cuda' });
  const tensorCores = Number(info.devices[0].computeCapability) >= 8;
  expect(model.description.includes(tensorCores ? 'tf32' : 'fp32'), `the default precision: ${model.description}`);
  model.dispose();
  await parity();
  await oddSizes(tensorCores);
  await sampling();
  const losses = {};
  for (const precision of ['fp32', 'tf32', 'fp16', ...(tensorCores ? ['bf16'] : [])]) {
    losses[precision] = await repeatAndResume(precision, 'standard');
  }
  for (const precision of Object.keys(losses)) {
    expect(Math.abs(losses[precision] - losses.fp32) < 0.05 * losses.fp32, `${precision} learns as fp32 does: ${losses[precision]}`);
  }
  if (!quick) {
    for (const algorithm of ['auto', 'persist-static', 'persist-dynamic']) await repeatAndResume('tf32', algorithm);
    const dynamic = await onGpu(spec('embedding', 2, 0.3), { precision: 'tf32', algorithm: 'persist-dynamic' });
    await dynamic.initialize();
    await dynamic.trainSteps(trainCall(size.steps, size.batch, 1, 'every', true));
    if (info.searched.some((line) => line.startsWith('NVRTC: /'))) {
      expect(dynamic.description.includes('persist-dynamic'), `persist-dynamic runs where NVRTC is: ${dynamic.description}`);
    }
    dynamic.dispose();
  }
  if (exhaust) await exhaustion();
  await memory();
  console.log(failures === 0 ? 'all passed' : `${failures} FAILED`);
  return failures === 0 ? 0 : 1;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
