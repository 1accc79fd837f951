import { chooseDeviceFor, type DeviceName } from '../../../lib/device/choose';
import type { NativeAddon, NativeCudaInfo } from '../../../lib/device/native';

const noGpu: NativeCudaInfo = {
  compiled: true,
  available: false,
  reason: 'libcuda.so.1 was not found',
  devices: [],
  searched: [],
};
const twoGpus: NativeCudaInfo = {
  compiled: true,
  available: true,
  reason: 'found',
  cudnn: { version: '9.5.1', path: '/lib/libcudnn.so.9' },
  devices: [0, 1].map((ordinal) => ({
    ordinal,
    name: `GPU ${ordinal}`,
    memoryBytes: 1,
    freeBytes: 1,
    computeCapability: '8.0',
  })),
  searched: [],
};

function addon(cuda: NativeCudaInfo): () => Pick<NativeAddon, 'cpuInfo' | 'cudaInfo'> {
  return () => ({ cpuInfo: () => ({ isa: 'avx2', supported: ['avx2', 'baseline'] }), cudaInfo: async () => cuda });
}

describe('chooseDevice', () => {
  it('takes a GPU where there is one, and says so', async () => {
    const choice = await chooseDeviceFor({}, undefined, addon(twoGpus));
    expect(choice).toMatchObject({ device: 'cuda', ordinal: 0 });
    expect(choice.reason).toBe('GPU 0, cuda:0, cuDNN 9.5.1 (a usable GPU was found)');
  });

  it('takes the first GPU that is listed, which need not be number 0', async () => {
    const second = { ...twoGpus, devices: twoGpus.devices.slice(1) };
    expect(await chooseDeviceFor({}, undefined, addon(second))).toMatchObject({ device: 'cuda', ordinal: 1 });
    expect(await chooseDeviceFor({ device: 'cuda' }, undefined, addon(second))).toMatchObject({
      device: 'cuda',
      ordinal: 1,
    });
    await expect(chooseDeviceFor({ device: 'cuda:0' }, undefined, addon(second))).rejects.toThrow(
      "'cuda:0' is not there",
    );
  });

  it('takes the CPU for a model that a GPU cannot compute, and refuses a GPU that was asked for', async () => {
    const why = 'cuDNN has sigmoid gates only';
    const { device, reason } = await chooseDeviceFor({ threads: 1 }, why, addon(twoGpus));
    expect([device, reason]).toEqual(['cpu', `CPU, AVX2, 1 thread (${why})`]);
    expect((await chooseDeviceFor({ device: 'cpu', threads: 1 }, why, addon(twoGpus))).reason).toContain('asked for');
    for (const [request, env] of [
      [{ device: 'cuda:1' }, {}],
      [{}, { CUDNN_LSTM_DEVICE: 'cuda:1' }],
    ] as const) {
      await expect(chooseDeviceFor({ ...request, env }, why, addon(twoGpus))).rejects.toMatchObject({
        exitCode: 4,
        message: `device 'cuda:1' cannot be used: ${why}; \`device: 'cpu'\` works.`,
      });
    }
  });

  it('takes the CPU where there is none, and says why', async () => {
    const choice = await chooseDeviceFor({ threads: 2 }, undefined, addon(noGpu));
    expect(choice).toMatchObject({ device: 'cpu', threads: 2 });
    expect(choice.reason).toBe('CPU, AVX2, 2 threads (no GPU: libcuda.so.1 was not found)');
    const { reason } = await chooseDeviceFor({ threads: 1 }, undefined, addon({ ...noGpu, compiled: false }));
    expect(reason).toBe('CPU, AVX2, 1 thread (no GPU: built without CUDA)');
  });

  it('does as the request says, and else as CUDNN_LSTM_DEVICE says', async () => {
    const env = { CUDNN_LSTM_DEVICE: 'cuda:1' };
    expect(await chooseDeviceFor({ device: 'cpu', env }, undefined, addon(twoGpus))).toMatchObject({ device: 'cpu' });
    expect(await chooseDeviceFor({ device: 'auto', env }, undefined, addon(twoGpus))).toMatchObject({
      device: 'cuda',
      ordinal: 0,
    });
    const choice = await chooseDeviceFor({ env }, undefined, addon(twoGpus));
    expect(choice).toMatchObject({ device: 'cuda', ordinal: 1 });
    expect(choice.reason).toContain('CUDNN_LSTM_DEVICE asks for it');
  });

  it('fails where the GPU that was asked for cannot be used', async () => {
    const searched = ['GPU: libcuda.so.1 was not found', 'cuDNN: found in /lib (LD_LIBRARY_PATH)'];
    await expect(chooseDeviceFor({ device: 'cuda' }, undefined, addon({ ...noGpu, searched }))).rejects.toMatchObject({
      exitCode: 4,
      message:
        "device 'cuda' cannot be used: libcuda.so.1 was not found. Looked for: GPU: libcuda.so.1 was not found; " +
        "cuDNN: found in /lib (LD_LIBRARY_PATH). It takes NVIDIA's driver, cuDNN 9 and cuBLAS (docs/gpu.md); `device: 'cpu'` works.",
    });
    await expect(chooseDeviceFor({ device: 'cuda:7' }, undefined, addon(twoGpus))).rejects.toThrow(
      "device 'cuda:7' is not there: found cuda:0, cuda:1.",
    );
  });

  it('refuses names that mean nothing', async () => {
    await expect(chooseDeviceFor({ device: 'gpu' as DeviceName }, undefined, addon(noGpu))).rejects.toMatchObject({
      exitCode: 2,
    });
    await expect(chooseDeviceFor({ env: { CUDNN_LSTM_DEVICE: 'tpu' } }, undefined, addon(noGpu))).rejects.toThrow(
      'CUDNN_LSTM_DEVICE must be',
    );
  });
});
