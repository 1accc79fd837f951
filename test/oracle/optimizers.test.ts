/** The oracle's optimisers against PyTorch's own, in float64. CUDNN_LSTM_PYTHON names the interpreter; default python3. */
import { itWithPython, runPython } from '../fixtures/interop';
import { OracleOptimizer, type RuleName, ruleNames } from './optimizers';

const itWithTorch = itWithPython('torch');

/** PyTorch's optimiser for the parameters p, and its epsilon in step t. */
const spelled: Readonly<Record<RuleName, string>> = {
  adam: 'torch.optim.Adam(p, lr=lr, betas=(b1, b2)), lambda t: eps / (1 - b2 ** t) ** 0.5',
  adamw: 'torch.optim.AdamW(p, lr=lr, betas=(b1, b2), weight_decay=0), lambda t: eps',
  sgd: 'torch.optim.SGD(p, lr=lr, momentum=mu), None',
  rmsprop: 'torch.optim.RMSprop(p, lr=lr, alpha=b2, eps=eps, momentum=mu), lambda t: eps',
};

const script = (cases: readonly { rule: RuleName }[]) => `
import json, sys, torch
cases, start, gradients = json.loads(sys.argv[1])
makers = [${cases.map(({ rule }) => `lambda p: (${spelled[rule]})`)}]
results = []
for make, o in zip(makers, cases):
    lr, b1, b2, eps, mu = o["learningRate"], o["beta1"], o["beta2"], o["epsilon"], o["momentum"]
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer, epsilon_of = make([weights])
    for t, gradient in enumerate(gradients, 1):
        for group in optimizer.param_groups:
            if "eps" in group: group["eps"] = epsilon_of(t)
        with torch.no_grad(): weights.mul_(1 - lr * o["weightDecay"])
        weights.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    results.append(weights.tolist())
print(json.dumps(results))
`;

const numbers = { learningRate: 0.03, beta1: 0.8, beta2: 0.95, epsilon: 1e-4, clip: 0 };

itWithTorch("are PyTorch's", async () => {
  const cases = ruleNames.flatMap((rule) =>
    [0, 0.5].map((weightDecay) => ({ rule, ...numbers, weightDecay, momentum: 1.6 * weightDecay })),
  );
  const start = [0.5, -1, 2, 0, 1e-3];
  const gradients = Array.from({ length: 7 }, (_, t) => start.map((_, k) => Math.sin(3 * t + k) * 10 ** (k - 3)));
  const expected = await runPython<number[][]>(script(cases), [JSON.stringify([cases, start, gradients])]);
  for (const [i, { rule, ...options }] of cases.entries()) {
    const parameters = Float64Array.from(start);
    const optimizer = new OracleOptimizer(rule, start.length, () => true);
    for (const gradient of gradients) optimizer.step(parameters, gradient, options);
    for (const [k, value] of expected[i]!.entries()) {
      if (Math.abs(parameters[k]! - value) > 1e-12)
        throw new Error(`${rule}: ${parameters[k]} where PyTorch has ${value}`);
    }
  }
});
