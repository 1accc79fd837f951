import { PassThrough } from 'node:stream';
import { TextPrinter } from '../../../lib/cli/sample-printer';

describe('TextPrinter', () => {
  it('prints texts that grow at once one after another', async () => {
    const stdout = new PassThrough();
    const printer = new TextPrinter(stdout, 3, '--', '> ');
    const read = () => (stdout.read() as Buffer | null)?.toString() ?? '';
    await printer.push({ stream: 0, text: 'a' });
    await printer.push({ stream: 1, text: 'x' });
    expect(read()).toBe('> a');
    await printer.push({ stream: 2, text: 'pq', finished: 'stop' });
    await printer.push({ stream: 0, text: 'b' });
    expect(read()).toBe('b');
    await printer.push({ stream: 0, text: 'c', finished: 'length' });
    expect(read()).toBe('c\n--\n> x');
    await printer.push({ stream: 1, text: 'y', finished: 'length' });
    expect(read()).toBe('y\n--\n> pq\n');
    await printer.interrupt();
    expect(read()).toBe('');
  });

  it('ends the line where it is interrupted', async () => {
    const stdout = new PassThrough();
    const printer = new TextPrinter(stdout, 1, '--', '');
    await printer.push({ stream: 0, text: 'ab' });
    await printer.interrupt();
    expect((stdout.read() as Buffer).toString()).toBe('ab\n');
  });
});
