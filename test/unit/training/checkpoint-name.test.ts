/** An unusable name for the best checkpoint is refused at the start, not after an epoch's work. */
import { resolveConfiguration } from '../../../lib/training/configuration';

const named = (checkpointName: string) => resolveConfiguration({ flags: { checkpointName } }).options.checkpointName;

it.each(['best', 'model-{epoch}-{loss}', 'e{epoch}of{epochs}', 'checkpoint-1', 'a.b'])('takes %s', (name) => {
  expect(named(name)).toBe(name);
});

it.each(['model-{val_loss}', '{', 'a}', 'checkpoint-00000001', 'x.safetensors', '.x', 'a/b', ''])(
  'refuses %p',
  (name) => {
    expect(() => named(name)).toThrow('the fields {epoch} {loss} {epochs}');
  },
);
