/** The package's own version, as package.json has it. By `require`, which bundlers follow. */
export const { version: packageVersion } = require('../package.json') as { version: string };
