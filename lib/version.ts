// Read with `require`, which bundlers follow.
/**
 * The package's version, as in package.json.
 *
 * @category Devices and this machine
 */
export const { version: packageVersion } = require('../package.json') as { version: string };
