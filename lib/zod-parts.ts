/**
 * The parts of zod that this package uses, by the names that they have there. `require('zod')` reads a hundred files, the messages in sixty
 * languages among them, which takes a third of a command's start: scripts/prepare.js puts these parts into one file in this one's place.
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
