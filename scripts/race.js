#!/usr/bin/env node
/**
 * Lets 2 to 8 processes race for the lock of one directory, round after round, over what a dead owner left there: `race.js ROUNDS`.
 * In each round exactly one must win, and the others must be told who. A third of the dead locks are real: the previous round's winner
 * was killed. The others are files that a dead process, or anything else, may leave. Prints what happened as JSON; exits with 1 at the
 * first round with no winner or two. A round takes about a tenth of a second.
 */
const { fork } = require('node:child_process');
const { mkdtempSync, readdirSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const most = 8;
/** What may be left: [name, text]; `none`: the previous round was cleaned up. */
const leftovers = [
  ['none'],
  ['empty', ''],
  ['of a dead process', `${JSON.stringify({ pid: 2 ** 30, host: require('node:os').hostname() })}\n`],
  ['of a living process', `${JSON.stringify({ pid: process.pid, host: require('node:os').hostname() })}\n`],
  ['of another machine', `${JSON.stringify({ pid: 1, host: 'elsewhere' })}\n`],
  ['of no use', '\0\ufffd{'.repeat(800)],
];

class Contender {
  constructor(directory) {
    this.child = fork(__filename, ['contend', directory]);
    this.ready = this.answer();
  }
  answer() {
    return new Promise((resolve, reject) => {
      const onExit = (code, signal) => {
        if (!this.ending) reject(new Error(`a contender ended by itself: ${code ?? signal}`));
      };
      this.child.once('exit', onExit);
      this.child.once('message', (message) => {
        this.child.off('exit', onExit);
        resolve(message);
      });
    });
  }
  ask(message) {
    const answer = this.answer();
    this.child.send(message);
    return answer;
  }
  async end() {
    this.ending = true;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
  }
}

async function main(rounds) {
  const directory = mkdtempSync(join(tmpdir(), 'race-'));
  const contenders = Array.from({ length: most }, () => new Contender(directory));
  const counts = { rounds: 0, killed: 0, contenders: {}, leftovers: {} };
  let killed = false; // Whether the last winner was killed, so that its lock is still there.
  try {
    for (let round = 0; round < rounds; round++) {
      const racing = contenders.slice(0, 2 + (round % (most - 1)));
      await Promise.all(racing.map((each) => each.ready));
      const [name, text] = killed
        ? ['of a winner that was killed']
        : leftovers[(round - counts.killed) % leftovers.length];
      if (text !== undefined) writeFileSync(join(directory, 'lock'), text);
      const at = Date.now() + 15;
      const answers = await Promise.all(racing.map((each) => each.ask({ at })));
      const winners = racing.filter((_, i) => answers[i].won);
      const strange = answers.filter(({ won, problem }) => !won && !/ is in use by /.test(problem));
      if (winners.length !== 1 || strange.length > 0) {
        throw new Error(`round ${round}, a lock ${name}, ${racing.length} contenders: ${JSON.stringify(answers)}`);
      }
      counts.rounds++;
      counts.contenders[racing.length] = (counts.contenders[racing.length] ?? 0) + 1;
      counts.leftovers[name] = (counts.leftovers[name] ?? 0) + 1;
      const [winner] = winners;
      killed = round % 3 === 0;
      if (killed) {
        counts.killed++;
        await winner.end();
        contenders[contenders.indexOf(winner)] = new Contender(directory);
      } else {
        await winner.ask({ release: true });
        const names = readdirSync(directory);
        if (names.length > 0) throw new Error(`round ${round}: ${names} was left`);
      }
    }
    console.log(JSON.stringify(counts));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    await Promise.all(contenders.map((each) => each.end()));
    rmSync(directory, { recursive: true });
  }
}

function contend(directory) {
  const { DirectoryLock } = require('../dist/checkpoint/lock');
  let lock;
  process.on('message', async ({ at, release }) => {
    if (release) {
      await lock.release();
      process.send({ released: true });
      return;
    }
    while (Date.now() < at); // All start in the same millisecond, if there are enough cores.
    try {
      lock = await DirectoryLock.take(directory);
      process.send({ won: true });
    } catch (error) {
      process.send({ won: false, problem: error.message });
    }
  });
  process.on('disconnect', () => process.exit());
  process.send({ ready: true });
}

if (process.argv[2] === 'contend') contend(process.argv[3]);
else void main(Number(process.argv[2] ?? 100));
