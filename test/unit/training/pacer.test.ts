import { Pacer } from '../../../lib/training/pacer';

describe('Pacer', () => {
  it('starts with one step, grows fourfold at most, and settles at 40 ms', () => {
    const pacer = new Pacer(1000);
    const counts = [];
    for (let call = 0; call < 8; call++) {
      counts.push(pacer.count);
      pacer.record(pacer.count, pacer.count * 1);
    }
    expect(counts).toEqual([1, 4, 16, 40, 40, 40, 40, 40]);
  });

  it('never goes below one step, nor above what memory allows', () => {
    const slow = new Pacer(1000);
    slow.record(1, 500);
    expect(slow.count).toBe(1);
    const large = new Pacer(1 << 19);
    for (let call = 0; call < 5; call++) large.record(large.count, 0.001);
    expect(large.count).toBe(2);
  });

  it('slows down with the device', () => {
    const pacer = new Pacer(1000);
    for (let call = 0; call < 8; call++) pacer.record(pacer.count, pacer.count);
    for (let call = 0; call < 20; call++) pacer.record(pacer.count, pacer.count * 20);
    expect(pacer.count).toBe(2);
  });
});
