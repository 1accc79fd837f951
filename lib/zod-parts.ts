/**
 * The parts of zod that this package uses, under the names they have there. `require('zod')` reads a hundred files, including messages in
 * sixty languages, which takes a third of a command's start-up time; scripts/prepare.js bundles these parts into one file that replaces
 * this one.
 */
export type { output, ZodObject, ZodType } from 'zod';
export {
  array,
  boolean,
  custom,
  enum,
  literal,
  looseObject,
  null,
  number,
  object,
  preprocess,
  record,
  strictObject,
  string,
  tuple,
  union,
  unknown,
} from 'zod';
