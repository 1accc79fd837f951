/** What machine code the binary contains, and what it says on a driver that is too old for it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addonPath, buildFolder, buildNativeTests, describeCuda } from './cuda-build';

interface Image {
  kind: 'ptx' | 'cubin';
  architecture: number;
}

/** The images in a binary's fat binaries: a 16-byte header, then for each image its kind, its header's size, its size and more. */
function imagesOf(binary: Buffer): Image[] {
  const images: Image[] = [];
  const magic = Buffer.from([0x50, 0xed, 0x55, 0xba]);
  for (let at = binary.indexOf(magic); at >= 0; at = binary.indexOf(magic, at + magic.length)) {
    if (binary.readUInt16LE(at + 4) !== 1 || binary.readUInt16LE(at + 6) !== 16) continue; // The same bytes, by chance.
    const end = at + 16 + Number(binary.readBigUInt64LE(at + 8));
    for (let image = at + 16; image < end; ) {
      images.push({
        kind: binary.readUInt16LE(image) === 1 ? 'ptx' : 'cubin',
        architecture: binary.readUInt32LE(image + 28),
      });
      image += binary.readUInt32LE(image + 4) + Number(binary.readBigUInt64LE(image + 8));
    }
  }
  return images;
}

describeCuda('the binary', () => {
  const cached = (name: string) => {
    const cache = readFileSync(join(buildFolder, 'CMakeCache.txt'), 'utf8');
    return (new RegExp(`^${name}:\\w+=(.*)$`, 'm').exec(cache) as RegExpExecArray)[1] as string;
  };

  test('holds code for each GPU that the compiler knows, and PTX of the oldest and the newest', () => {
    const known = execFileSync(cached('CUDA_NVCC'), ['--list-gpu-code'], { encoding: 'utf8' });
    const wanted = cached('CUDNN_LSTM_CUDA_ARCHITECTURES').split(';').map(Number);
    const compiled = wanted.filter((architecture) => new RegExp(`\\bsm_${architecture}\\b`).test(known));
    expect(compiled).toEqual(expect.arrayContaining([75, 80, 86, 89, 90]));
    const images = imagesOf(readFileSync(addonPath));
    const architectures = (kind: Image['kind']) =>
      images
        .filter((image) => image.kind === kind)
        .map((image) => image.architecture)
        .sort((a, b) => a - b);
    expect(architectures('cubin')).toEqual(compiled);
    expect(architectures('ptx')).toEqual([75, Math.max(...compiled)]);
  });

  describe('on a driver that is too old', () => {
    let folder: string;
    beforeAll(buildNativeTests, 300_000);
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'cudnn-lstm-driver-'));
    });
    afterEach(() => rmSync(folder, { recursive: true, force: true }));

    test('says which it needs, and that another toolkit would do', () => {
      execFileSync('cc', ['-shared', '-o', join(folder, 'libcuda.so.1'), '-x', 'c', '/dev/null']);
      const standin = join(buildFolder, 'gpu-tests', 'addon', 'build', 'Release', 'cudnn_lstm.node');
      const script = 'require(process.argv[1]).cudaInfo().then((info) => console.log(info.available, info.reason))';
      const env = { PATH: '/nowhere', LD_LIBRARY_PATH: folder, STANDIN_DRIVER: '11080' };
      const { stdout, stderr } = spawnSync(process.execPath, ['-e', script, standin], { encoding: 'utf8', env });
      expect(stderr).toBe('');
      expect(stdout).toMatch(
        /^false the NVIDIA driver supports CUDA 11\.8, this build needs (13\.0: update the driver to 580|12\.0: update the driver to 525) or later, or build with an older CUDA toolkit, as docs\/gpu\.md says\n$/,
      );
    });
  });
});
