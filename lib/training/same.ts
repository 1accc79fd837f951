/** Checks that all ranks train the same model, on the same text, in the same way. */
import { createHash } from 'node:crypto';
import type { Corpus, CorpusPart } from '../corpus/corpus';
import type { NativeModel } from '../device/native';
import { hashSlot } from '../device/pieces';
import { DataError, TrainingError, UsageError } from '../errors';
import { grouped } from '../numbers';
import type { Ranks } from '../ranks/ranks';
import { option } from '../wording';
import { type OptionName, optionDefinitions, optionNames, showValue, type TrainingOptions } from './options';

type TextIdentity = Readonly<Pick<Corpus, 'sha256' | 'length' | 'parts'>>;

/** What must be the same on all ranks. */
export interface Identity {
  readonly corpus: TextIdentity;
  /** The kept text, when fine-tuning. */
  readonly kept?: TextIdentity | undefined;
  /** A validation text that is not part of the corpus. */
  readonly validation?: TextIdentity | undefined;
  readonly options: TrainingOptions;
  /** `'cpu'` or `'cuda'`: they order the weights differently. */
  readonly device: string;
  /** The CPU's instruction set: other vector units round differently. */
  readonly instructionSet: string;
  /** The package's version. */
  readonly version: string;
}

/** Whether each rank has its own value of an option. */
function isOwn(name: OptionName): boolean {
  return optionDefinitions[name].resume === 'fresh';
}

/**
 * @throws UsageError, DataError or TrainingError on all ranks alike if one differs from rank 0; the message names both.
 */
export async function compareRanks(ranks: Ranks, identity: Identity, native: NativeModel): Promise<void> {
  const all = await ranks.gatherJson<Identity>('identity', identity);
  const first = all[0] as Identity;
  const fail = (error: Error): never => {
    throw ranks.agree(error);
  };
  all.forEach((each, rank) => {
    const [here, there] = [ranks.name(0), ranks.name(rank)];
    if (each.version !== first.version)
      fail(
        new UsageError(
          `The ranks have different versions of cudnn-lstm: ${first.version} for ${here}, ${each.version} for ${there}; install the same on all machines.`,
        ),
      );
    for (const [key, texts] of [
      ['corpus', 'texts'],
      ['kept', 'texts to keep'],
      ['validation', 'validation texts'],
    ] as const) {
      const [mine, theirs] = [describe(first[key]), describe(each[key])];
      if (first[key]?.sha256 === each[key]?.sha256 && mine === theirs) continue;
      fail(
        new DataError(
          `The ranks have different ${texts}: ${mine} for ${here}, ${theirs} for ${there}; give all of them the same.`,
        ),
      );
    }
    for (const name of optionNames) {
      if (isOwn(name) || JSON.stringify(each.options[name]) === JSON.stringify(first.options[name])) continue;
      const values = [first, each].map(({ options }) => showValue(name, options[name]));
      fail(
        new UsageError(
          `The ranks have different options: ${option(name)} is ${values[0]} for ${here}, ${values[1]} for ${there}; give all of them the same.`,
        ),
      );
    }
    if (each.device !== first.device)
      fail(
        new UsageError(
          `The ranks have different devices: ${first.device} for ${here}, ${each.device} for ${there}; give all of them the same ${option('device')}.`,
        ),
      );
    if (each.instructionSet !== first.instructionSet)
      fail(
        new UsageError(
          `The ranks compute with different instruction sets, which round differently: ${first.instructionSet} for ${here}, ` +
            `${each.instructionSet} for ${there}; set CUDNN_LSTM_CPU_ISA to one that all have.`,
        ),
      );
  });
  await compareParameters(ranks, native);
}

/** @throws TrainingError on all ranks alike if the weights of one differ from those of rank 0. */
export async function compareParameters(ranks: Ranks, native: NativeModel): Promise<void> {
  const hash = createHash('sha256');
  await hashSlot(native, 'parameters', hash);
  const all = (await ranks.gather('parameters', hash.digest())).map((each) =>
    Buffer.from(each).toString('hex').slice(0, 16),
  );
  const other = all.findIndex((each) => each !== all[0]);
  if (other < 0) return;
  throw ranks.agree(
    new TrainingError(
      `The weights of the ranks have become different: ${all[0]} for ${ranks.name(0)}, ${all[other]} for ${ranks.name(other)} (the beginning of ` +
        'their SHA-256), which none of this should come to: a faulty machine or MPI library; the checkpoints before this are as they were.',
    ),
  );
}

/** `2 for 400 characters, 1 for 1,200 characters` */
export function describeParts(parts: readonly CorpusPart[]): string {
  return parts.map(({ length, weight }) => `${weight} for ${grouped(length)} characters`).join(', ');
}

function describe(text: TextIdentity | undefined): string {
  if (text === undefined) return 'none';
  const { sha256, length, parts } = text;
  const weights = parts ? `, weights ${describeParts(parts)}` : '';
  return `${grouped(length)} characters (SHA-256 ${sha256.slice(0, 16)}${weights})`;
}
