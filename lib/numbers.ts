/**
 * A whole number with thousands separators: 1,234,567. The same as toLocaleString('en'), whose first call loads locale data, which takes
 * longer than everything else that most commands print.
 */
export function grouped(value: number): string {
  // From 1e21 on, digits are written with an exponent.
  return Math.abs(value) < 1e21 ? String(value).replace(/\B(?=(\d{3})+$)/g, ',') : value.toLocaleString('en');
}

/** `1 epoch`, `1,000 epochs`. */
export function plural(count: number, noun: string): string {
  return `${grouped(count)} ${noun}${count === 1 ? '' : 's'}`;
}
