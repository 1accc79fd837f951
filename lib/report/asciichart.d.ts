/** The part of asciichart that the report uses; the package ships no types. */
declare module 'asciichart' {
  export function plot(
    series: readonly number[],
    options?: { height?: number; format?: (value: number) => string },
  ): string;
}
