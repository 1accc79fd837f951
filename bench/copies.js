// The cost of keeping a text from copying: nanoseconds per character to index a corpus, to query the index, and to compare a text with a
// corpus that has no index. node bench/copies.js [FILE]
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { MemoryIds } = require('../dist/corpus/ids');
const { TextIndex } = require('../dist/corpus/text-index');
const { Vocabulary } = require('../dist/corpus/vocabulary');
const { findCopies } = require('../dist/sampling/copies');

async function main() {
  const file = process.argv[2] ?? path.join(__dirname, '..', 'corpora', 'the-lamplighters-road.txt');
  const text = readFileSync(file, 'utf8');
  const vocabulary = Vocabulary.of([text]);
  const encoded = vocabulary.encode(text);
  const ids = new MemoryIds(vocabulary.size <= 256 ? Uint8Array.from(encoded) : Uint16Array.from(encoded));
  const written = encoded.slice(encoded.length >> 1, (encoded.length >> 1) + 2000);
  const time = async (work) => {
    const times = [];
    for (let run = 0; run < 5; run++) {
      const from = process.hrtime.bigint();
      await work();
      times.push(Number(process.hrtime.bigint() - from));
    }
    return times.sort((a, b) => a - b)[2];
  };
  const index = await TextIndex.of(ids);
  const building = await time(() => TextIndex.of(ids));
  const comparing = await time(() => findCopies([written], ids));
  const asking = await time(() => {
    for (let i = 20; i < written.length; i++) index.after(written.subarray(i - 20, i));
  });
  console.log(`${file}: ${ids.length.toLocaleString('en')} characters, ${vocabulary.size} symbols`);
  console.log(
    `index:      ${(building / ids.length).toFixed(0)} ns a character of the corpus, ${(index.bytes / ids.length).toFixed(1)} bytes`,
  );
  console.log(`question:   ${(asking / (written.length - 20)).toFixed(0)} ns a character written (the last 20)`);
  console.log(`comparison: ${(comparing / ids.length).toFixed(0)} ns a character of the corpus, with a text of 2,000`);
}

main();
