// The peer's side of the protocol, for peers in JavaScript; serve.py is the same in Python. Commands come on stdin, one per line:
// `train N` or `sample N`. Each is answered by one line of JSON on stdout: {"count", "seconds"}, and for training the "loss" of the
// last steps; count is what was done (at least N: a peer may do several steps at once). The first line comes unasked and identifies
// the peer: {"name", "versions", "settings", "parameters"}. The end of stdin ends the peer.
const { createInterface } = require('node:readline');

/** The job given as the last argument. */
const readJob = () => JSON.parse(process.argv.at(-1));

/** @param handlers { train, sample }: async (count) => { count, loss? }; only the handler's own time counts. */
async function serve(about, handlers) {
  const answer = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);
  answer(about);
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, count] = line.split(' ');
    const started = performance.now();
    const done = await handlers[command](Number(count));
    answer({ seconds: (performance.now() - started) / 1000, ...done });
  }
}

/** Runs a peer's main function; an error ends the process with one line on stderr that says what was missing. */
function run(main) {
  main().then(
    () => process.exit(0),
    (error) => {
      console.error(String(error?.message ?? error).split('\n')[0]);
      process.exit(1);
    },
  );
}

module.exports = { readJob, run, serve };
