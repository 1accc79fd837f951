/** Clean-up in several steps, all of which run even if one fails. */

/**
 * Runs every step in order, whether or not those before it fail.
 *
 * @throws What the first failed step threw, after the last step.
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

/** The same while another error is being thrown, which is the one to report: failures of the clean-up are ignored. */
export async function takeAllQuietly(steps: Iterable<() => unknown>): Promise<void> {
  await takeAll(steps).catch(() => {});
}
