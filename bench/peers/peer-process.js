// The runner's side of the protocol that serve.js describes: one peer in a process of its own.
const { spawn } = require('node:child_process');
const { createInterface } = require('node:readline');

/** No single answer takes this long, in milliseconds, unless something hangs. */
const patience = 15 * 60 * 1000;

class PeerProcess {
  /** What the peer said about itself: { name, versions, settings, parameters }. */
  about;
  #child;
  #lines;
  #stderr = '';

  /** Starts a peer. @throws Error with one line: why it cannot run. */
  static async start(command, args, job) {
    const peer = new PeerProcess(command, [...args, JSON.stringify(job)], job.threads);
    try {
      peer.about = await peer.#answer();
    } catch (error) {
      await peer.stop();
      throw error;
    }
    return peer;
  }

  constructor(command, args, threads) {
    this.#child = spawn(command, args, { env: { ...process.env, OMP_NUM_THREADS: String(threads) } });
    this.#child.on('error', (error) => {
      this.#stderr += `${error.message}\n`;
    });
    // A peer that has ended is noticed when its answer is missing.
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.on('data', (data) => {
      this.#stderr = `${this.#stderr}${data}`.slice(-10_000);
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  train = (count) => this.#ask(`train ${count}`);
  sample = (count) => this.#ask(`sample ${count}`);

  async stop() {
    this.#child.kill('SIGKILL');
    if (this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null) {
      await new Promise((resolve) => this.#child.once('exit', resolve));
    }
  }

  async #ask(command) {
    this.#child.stdin.write(`${command}\n`);
    const { count, seconds, loss } = await this.#answer();
    return { each: seconds / count, loss };
  }

  async #answer() {
    const timer = setTimeout(() => {
      this.#stderr += `no answer in ${patience / 60_000} minutes\n`;
      this.#child.kill('SIGKILL');
    }, patience);
    const { value, done } = await this.#lines.next();
    clearTimeout(timer);
    if (!done) return JSON.parse(value);
    throw new Error(this.#stderr.trim().split('\n').at(-1) || 'it ended without an answer');
  }
}

module.exports = { PeerProcess };
