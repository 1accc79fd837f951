// By `require`, which bundlers follow.
/**
 * The package's own version, as package.json has it.
 *
 * @category Devices and this machine
 */
export const { version: packageVersion } = require('../package.json') as { version: string };
