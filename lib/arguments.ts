/**
 * Checks a caller's arguments and turns them into plain values of the types that the rest of the package works with. Each is read
 * once, here: a getter, a proxy or a value of another type ends in an error that names the argument.
 */

import { types } from 'node:util';
import { CudnnLstmError, UsageError } from './errors';
import { harmless } from './harmless';
import { checkKeys } from './nearest';
import { grouped } from './numbers';
import { subject } from './wording';

/** Formats a value for an error message; no value makes this fail. */
export function show(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return `'${harmless(value.length > 100 ? `${value.slice(0, 100)}…` : value)}'`;
    case 'bigint':
      return `${value.toString().slice(0, 100)}n`;
    case 'symbol':
      return 'a symbol';
    case 'function':
      return 'a function';
    case 'object':
      if (ArrayBuffer.isView(value)) return 'a typed array';
      return value === null ? 'null' : isList(value) ? 'a list' : 'an object';
    default:
      return String(value);
  }
}

/** `Array.isArray`, but false for a revoked proxy, on which that throws. */
function isList(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

function wrong(what: string, expected: string, value: unknown): UsageError {
  return new UsageError(`${what} must be ${expected}, not ${show(value)}.`);
}

/** Runs `look`, which reads a caller's object: this may run the caller's own code, which may throw. */
export function looking<T>(what: string, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    if (cause instanceof CudnnLstmError) throw cause;
    throw new UsageError(`${what} cannot be read: ${problemOf(cause)}`, { cause });
  }
}

function problemOf(cause: unknown): string {
  return types.isNativeError(cause) && typeof cause.message === 'string' ? harmless(cause.message) : show(cause);
}

/**
 * The named properties of an object, each read once; undefined ones are left out. If no object is given, there are none.
 *
 * @throws UsageError if it is not an object, or a property cannot be read.
 */
export function fieldsOf<T extends object>(what: string, value: unknown, names: readonly (keyof T & string)[]): T {
  const fields: Record<string, unknown> = {};
  if (value === undefined) return fields as T;
  if (typeof value !== 'object' || value === null) throw wrong(what, 'an object', value);
  for (const name of names) {
    const field = looking(`${name} of ${what}`, () => (value as Record<string, unknown>)[name]);
    if (field !== undefined) fields[name] = field;
  }
  return fields as T;
}

/** All own properties of an object, as an object without a prototype. A list, whose properties are its items, is refused. */
export function recordOf(what: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || isList(value) || ArrayBuffer.isView(value))
    throw wrong(what, 'an object', value);
  return looking(what, () => Object.assign(Object.create(null) as Record<string, unknown>, value));
}

/** A deep copy of an object by way of JSON, so that the caller's own object is neither read later nor frozen. */
export function dataOf(what: string, value: unknown): Record<string, unknown> {
  recordOf(what, value);
  return looking(what, () => recordOf(what, JSON.parse(JSON.stringify(value) ?? 'null')));
}

/**
 * A list whose items have each been checked.
 *
 * @param most The most items allowed.
 */
export function listOf<T>(
  what: string,
  value: unknown,
  item: (what: string, value: unknown) => T,
  most = 1 << 26,
): T[] {
  if (!isList(value)) throw wrong(what, 'a list', value);
  return looking(what, () => {
    const { length } = value;
    if (!(length <= most)) throw new UsageError(`${what} must have at most ${grouped(most)} items.`);
    const items: T[] = [];
    for (let i = 0; i < length; i++) items.push(item(`${what}[${i}]`, value[i]));
    return items;
  });
}

export function textOf(what: string, value: unknown): string {
  if (typeof value !== 'string') throw wrong(what, 'a string', value);
  return value;
}

/** A path or a glob pattern. */
export function pathOf(what: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) throw wrong(what, 'a path', value);
  return value;
}

export function wholeOf(what: string, value: unknown, low: number, high = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= low && value <= high) return value;
  const most = high === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : grouped(high);
  throw wrong(what, `a whole number from ${low} to ${most}`, value);
}

export function numberOf(what: string, value: unknown): number {
  if (typeof value === 'number') return value;
  throw wrong(what, 'a number', value);
}

export function flagOf(what: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw wrong(what, 'true or false', value);
  return value;
}

export function choiceOf<const C extends readonly string[]>(what: string, value: unknown, choices: C): C[number] {
  if (choices.includes(value as string)) return value as C[number];
  throw wrong(what, choices.map((choice) => `'${choice}'`).join(' or '), value);
}

/** An AbortSignal from any realm. */
export function signalOf(what: string, value: unknown): AbortSignal {
  const { aborted, addEventListener, removeEventListener, throwIfAborted } = fieldsOf<AbortSignal>(what, value, [
    'aborted',
    'addEventListener',
    'removeEventListener',
    'throwIfAborted',
  ]);
  const isSignal =
    typeof aborted === 'boolean' &&
    [addEventListener, removeEventListener, throwIfAborted].every((method) => typeof method === 'function');
  if (!isSignal) throw wrong(what, 'an AbortSignal', value);
  return value as AbortSignal;
}

/** A function that can be called, so not a class. What it throws when called reaches its caller. */
export function callbackOf<F>(what: string, value: unknown): F {
  const callable =
    typeof value === 'function' &&
    looking(
      what,
      () => Object.getPrototypeOf(value) !== undefined && !/^class\b/.test(Function.prototype.toString.call(value)),
    );
  if (!callable) throw wrong(what, 'a function', value);
  return value as F;
}

export function floatsOf(what: string, value: unknown): Float32Array {
  if (!types.isFloat32Array(value)) throw wrong(what, 'a Float32Array', value);
  return value;
}

export function instanceOf<T>(
  what: string,
  value: unknown,
  type: abstract new (...args: never[]) => T,
  made: string,
): T {
  if (looking(what, () => value instanceof type)) return value as T;
  throw wrong(what, made, value);
}

/** A check for a property that may be left out. */
export function optional<T>(
  check: (what: string, value: unknown) => T,
): (what: string, value: unknown) => T | undefined {
  return (what, value) => (value === undefined ? undefined : check(what, value));
}

/** The check for each property of an options object. */
export type Checks<T extends object> = { readonly [K in keyof T]-?: (what: string, value: unknown) => T[K] };

/**
 * The known properties of an options object, each read once and checked.
 *
 * @param call The function that takes the options: if given, unknown properties are refused; otherwise they are ignored.
 * @throws UsageError that names the property, and for an unknown one the nearest known one.
 */
export function optionsOf<T extends object>(what: string, value: unknown, checks: Checks<T>, call?: string): T {
  if (call !== undefined && typeof value === 'object' && value !== null) {
    checkKeys(
      looking(what, () => Object.keys(value)),
      Object.keys(checks),
      call,
    );
  }
  const names = Object.keys(checks) as (keyof T & string)[];
  const fields = fieldsOf<T>(what, value, names);
  for (const name of names) {
    if (fields[name] !== undefined) fields[name] = checks[name](subject(name), fields[name]);
  }
  return fields;
}
