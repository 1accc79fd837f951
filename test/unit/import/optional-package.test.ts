/** The error if a package that only some files need is not installed. `scripts/test-package.sh` runs without the package. */
import { ZipArchive } from '../../../lib/import/zip';

let error: object;
jest.mock('yauzl', () => {
  throw error;
});

it.each(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'])('a zip archive without yauzl (%s)', async (code) => {
  error = Object.assign(new Error("Cannot find package 'yauzl'"), { code });
  await expect(ZipArchive.open(Buffer.from('PK\x03\x04'))).rejects.toMatchObject({
    code: 'ERR_MISSING_PACKAGE',
    exitCode: 1,
    message: expect.stringMatching(
      /^PyTorch's and Keras' files are zip archives, .* not installed: npm install yauzl$/,
    ),
  });
});

it('what else is wrong with the package is not called missing', async () => {
  error = new Error('it is broken');
  await expect(ZipArchive.open(Buffer.from('PK\x03\x04'))).rejects.toBe(error);
});
