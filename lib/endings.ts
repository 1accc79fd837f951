/** Cleaning up in several steps, of which one that fails leaves none of the others out. */

/**
 * Takes every step, one after another, whatever comes of those before it.
 *
 * @throws What the first step that failed has thrown, after the last.
 */
export async function takeAll(steps: Iterable<() => unknown>): Promise<void> {
  let failed: { readonly error: unknown } | undefined;
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failed ??= { error };
    }
  }
  if (failed) throw failed.error;
}

/** The same where an error is on its way already, which is the one to be told: what fails in cleaning up goes unsaid. */
export async function takeAllQuietly(steps: Iterable<() => unknown>): Promise<void> {
  await takeAll(steps).catch(() => {});
}
