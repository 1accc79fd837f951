/**
 * A whole number with a comma before every three digits: 1,234,567. It is what toLocaleString('en') gives, whose first call reads what the
 * system knows of languages, which takes longer than all else that most commands print.
 */
export function grouped(value: number): string {
  // From there on digits are written with an exponent.
  return Math.abs(value) < 1e21 ? String(value).replace(/\B(?=(\d{3})+$)/g, ',') : value.toLocaleString('en');
}

/** `1 epoch`, `1,000 epochs`. */
export function plural(count: number, noun: string): string {
  return `${grouped(count)} ${noun}${count === 1 ? '' : 's'}`;
}
