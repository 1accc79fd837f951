/** `import`: reads a model that another program trained. */
import { Command, Option } from 'commander';
import { type GateActivation, gateActivations } from '../device/native';
import { exitCodes } from '../errors';
import { type ImportedModel, importModel } from '../import/import';
import { checkFree, saveImported } from '../import/save';
import { grouped } from '../numbers';
import { pathArgument } from '../shell';
import {
  abortOnSignals,
  addDeviceOptions,
  type CommandIo,
  type DeviceOptions,
  numberOption,
  parseArguments,
  processIo,
} from './command';
import { commandLine } from './invocation';
import { printJson, printLine, say, sayCommand } from './output';

interface ImportCommandOptions extends DeviceOptions {
  out: string;
  vocabulary?: string;
  corpus?: string;
  text?: string;
  encoding?: string;
  gates?: GateActivation;
  window?: number;
  json?: boolean;
}

/** The command; see `import --help`. */
export async function importCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const { out, json, ...options } = command.opts<ImportCommandOptions>();
  const [file] = command.args as [string];
  await checkFree(out);
  using interrupt = abortOnSignals(io);
  const imported = await importModel(file, {
    ...options,
    env: process.env,
    signal: interrupt.signal,
    onNote: (line) => say(io.stderr, line),
  });
  const path = await saveImported(imported, out, { signal: interrupt.signal });
  if (json) await printJson(io.stdout, fields(imported, path));
  else {
    for (const line of lines(imported)) say(io.stderr, line);
    await printLine(io.stdout, path);
    sayCommand(io.stderr, `try it: ${commandLine(['sample', pathArgument(out)])}`);
  }
  return exitCodes.ok;
}

function fields({ kind, vocabularySource, proof, notes, checkpoint }: ImportedModel, path: string) {
  const { model, vocabulary, normalization } = checkpoint.metadata;
  return { path, kind, model, vocabulary: vocabulary.join(''), vocabularySource, normalization, proof, notes };
}

function lines({ kind, vocabularySource, proof, notes, checkpoint }: ImportedModel): string[] {
  const { model, vocabulary } = checkpoint.metadata;
  const gates = model.gateActivation === undefined ? '' : `, gates ${model.gateActivation}`;
  return [
    `model: ${kind}, LSTM, ${model.layers} × ${model.hidden}, input ${model.input}${gates}`,
    `vocabulary: ${vocabulary.length} symbols, from ${vocabularySource}`,
    ...notes,
    `proof: ${proof.loss.toFixed(4)} nats per character on ${grouped(proof.characters)} characters of ${proof.text}; ` +
      `counting letters: ${proof.letterLoss.toFixed(4)}`,
  ];
}

function syntax(): Command {
  const command = new Command('import')
    .description(
      'Import a character model trained by another program: PyTorch (a state dict or a whole module), Keras (.keras, .h5, or only the weights), TensorFlow.js (model.json) or ml5 (manifest.json). The file is read as data: ' +
        'nothing in it is run. The model is tested by scoring a piece of text, and refused if it does no better than counting ' +
        'letters. The path of the checkpoint goes to stdout, everything else to stderr.',
    )
    .argument('<file>', 'the file; its format is recognised by its content')
    .requiredOption('--out <path>', 'FILE.safetensors, or a new directory')
    .option('--json', 'one JSON object')
    .optionsGroup('Vocabulary, if it is not in the file:')
    .addOption(
      new Option(
        '--vocabulary <file>',
        'a JSON file or a pickle: a list in the order of ids, {"symbol": id} or {"id": "symbol"}; or python-printable',
      ),
    )
    .option('--corpus <file>', 'the text it was trained on, whose sorted characters are the vocabulary')
    .optionsGroup('Test:')
    .option('--text <file>', 'the text to score (default: the corpus, else the bundled tale, which is in English)')
    .option('--encoding <name>', 'encoding of the corpus and the text (default: utf-8)')
    .addOption(
      new Option(
        '--gates <name>',
        'the activation of the gates, if the file does not say it (default: what scores best)',
      ).choices(gateActivations),
    )
    .option(
      '--window <n>',
      'the model was trained on windows of n characters, each from zero state (default: what the file says)',
      numberOption('--window', { integer: true }),
    );
  return addDeviceOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm import rnn_20_epoch.net --out runs/anna
  cudnn-lstm import model.pt --corpus shakespeare.txt --out runs/shakespeare`,
  );
}
