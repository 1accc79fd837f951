/** `export`: writes a model for other programs. */
import { Command, Option } from 'commander';
import { exitCodes } from '../errors';
import { type ExportFormat, exportFormats, exportModel } from '../export/export';
import { abortOnSignals, type CommandIo, parseArguments, processIo } from './command';
import { printLine } from './output';

/** The command; see `export --help`. */
export async function exportCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const [checkpoint] = command.args as [string];
  using interrupt = abortOnSignals(io);
  const options = command.opts<{ to: ExportFormat; out: string }>();
  const files = await exportModel(checkpoint, { ...options, signal: interrupt.signal });
  for (const file of files) await printLine(io.stdout, file);
  return exitCodes.ok;
}

function syntax(): Command {
  return new Command('export')
    .description(
      'Write a model for other programs, and print the names of the files. Next to a pytorch, keras or onnx file is the ' +
        'vocabulary, a JSON list in the order of ids.',
    )
    .argument('<checkpoint>', "a checkpoint, or a run's directory (its best checkpoint)")
    .addOption(
      new Option(
        '--to <format>',
        'pytorch: a state dict for torch.load; keras: a .keras archive for Keras 3; onnx: a graph, opset 17; html: a self-contained web page; int8, bf16: a checkpoint for sampling and scoring only, with 8 or 16 bits per weight',
      )
        .choices(exportFormats)
        .makeOptionMandatory(),
    )
    .requiredOption('--out <file>', 'the file to write')
    .option('--title <text>', "heading of the page (default: the run's name)")
    .option('--half', '16-bit weights in the page, half the size')
    .addHelpText(
      'after',
      `
Examples:
  cudnn-lstm export runs/book --to html --out book.html
  cudnn-lstm export runs/book --to pytorch --out book.pt`,
    );
}
