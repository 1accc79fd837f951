/** htm/preact/standalone.module.js, laid beside the page by scripts/prepare.js. */
export * from 'htm/preact';
