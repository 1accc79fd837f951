import { printText } from '../../../lib/cli/output';
import { TextPrinter } from '../../../lib/cli/sample-printer';
import { Sink } from '../../fixtures/sink';

describe('TextPrinter', () => {
  it('prints texts that grow at once one after another', async () => {
    const stdout = new Sink();
    const printer = new TextPrinter((text) => printText(stdout, text), 3, '--', '> ');
    await printer.push({ stream: 0, text: 'a' });
    await printer.push({ stream: 1, text: 'x' });
    expect(stdout.take()).toBe('> a');
    await printer.push({ stream: 2, text: 'pq', finished: 'stop' });
    await printer.push({ stream: 0, text: 'b' });
    expect(stdout.take()).toBe('b');
    await printer.push({ stream: 0, text: 'c', finished: 'length' });
    expect(stdout.take()).toBe('c\n--\n> x');
    await printer.push({ stream: 1, text: 'y', finished: 'length' });
    expect(stdout.take()).toBe('y\n--\n> pq\n');
    await printer.interrupt();
    expect(stdout.take()).toBe('');
  });

  it('ends the line where it is interrupted', async () => {
    const stdout = new Sink();
    const printer = new TextPrinter((text) => printText(stdout, text), 1, '--', '');
    await printer.push({ stream: 0, text: 'ab' });
    await printer.interrupt();
    expect(stdout.take()).toBe('ab\n');
  });

  it.each([[[]], [['']], [['ab\n']]])('and only a line that has begun: %j', async (pieces) => {
    const stdout = new Sink();
    const printer = new TextPrinter((text) => printText(stdout, text), 2, '--', '');
    for (const text of pieces) await printer.push({ stream: 0, text });
    await printer.interrupt();
    expect(stdout.take()).toBe(pieces.join(''));
  });
});
