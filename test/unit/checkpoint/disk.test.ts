/** Atomic writes, both with simulated failures of system calls and on disks that are really full, read-only or missing. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadCheckpoint } from '../../../lib/checkpoint/checkpoint';
import { type DiskCalls, makeDirectory, realCalls, writeFileAtomically } from '../../../lib/checkpoint/disk';
import { packageRoot } from '../../../lib/device/native';
import { canRun, compiled, itWhere, node, run } from '../../fixtures/child';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'disk-'));
});
afterEach(() => rm(folder, { recursive: true }));

const failure = (code: string) => Object.assign(new Error(code), { code, syscall: 'test' });

describe('an atomic write', () => {
  /** System calls of which `call` fails after it has succeeded `after` times. */
  function failing(call: 'open' | 'write' | 'sync' | 'close' | 'rename', code: string, after = 0): DiskCalls {
    let left = after;
    const fail = async () => {
      if (left-- <= 0) throw failure(code);
    };
    return {
      open: async (path, flags) => {
        if (call === 'open') await fail();
        const handle = await open(path, flags);
        return {
          write: async (...args: unknown[]) => {
            if (call === 'write') await fail();
            return (handle.write as (...a: unknown[]) => Promise<never>)(...args);
          },
          fd: handle.fd,
          close: async () => {
            await handle.close();
            if (call === 'close') await fail();
          },
        } as unknown as Awaited<ReturnType<DiskCalls['open']>>;
      },
      sync: async (fd) => (call === 'sync' ? fail() : realCalls.sync(fd)),
      rename: async (from, to) => (call === 'rename' ? fail() : realCalls.rename(from, to)),
      unlink: realCalls.unlink,
    };
  }
  const bytes = (text: string) => [Buffer.from(text.slice(0, 3)), Buffer.from(text.slice(3))];

  it('writes all pieces, over what was there, with what a call may write at once', async () => {
    const path = join(folder, 'file');
    await writeFile(path, 'old and longer than new');
    const stingy: DiskCalls = {
      ...realCalls,
      open: async (p, flags) => {
        const handle = await open(p, flags);
        const write = (piece: Uint8Array, offset: number) =>
          handle.write(piece, offset, Math.min(2, piece.length - offset));
        return { write, fd: handle.fd, close: () => handle.close() } as unknown as Awaited<
          ReturnType<DiskCalls['open']>
        >;
      },
    };
    await writeFileAtomically(path, bytes('all of it'), { calls: stingy });
    expect(await readFile(path, 'utf8')).toBe('all of it');
    expect(await readdir(folder)).toEqual(['file']);
  });

  const calls = ['open', 'write', 'sync', 'close', 'rename'] as const;
  it.each(
    calls.flatMap((call) =>
      ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EACCES', 'EIO', 'EWHATEVER'].map((code) => [call, code] as const),
    ),
  )('whose %s fails with %s leaves the old file, no temporary, and says what to do', async (call, code) => {
    const path = join(folder, 'file');
    await writeFile(path, 'old');
    const error = await writeFileAtomically(path, bytes('brand-new'), { calls: failing(call, code) }).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({
      code: 'ERR_DISK',
      exitCode: 5,
      message: expect.stringContaining(`cannot write ${path}: `),
    });
    expect((error as Error).message).not.toContain('\n');
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('that fails half-way leaves the old file', async () => {
    const path = join(folder, 'file');
    await writeFile(path, 'old');
    await expect(
      writeFileAtomically(path, bytes('brand-new'), { calls: failing('write', 'ENOSPC', 1) }),
    ).rejects.toThrow(/no space is left/);
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('passes on an error that is not the disk’s, with nothing changed', async () => {
    const path = join(folder, 'file');
    function* pieces() {
      yield Buffer.from('a');
      throw new TypeError('a bug');
    }
    await expect(writeFileAtomically(path, pieces())).rejects.toThrow('a bug');
    expect(await readdir(folder)).toEqual([]);
  });

  it('into a directory that is gone, or is a file', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(writeFileAtomically(join(folder, 'none', 'x'), bytes('abcdef'))).rejects.toMatchObject({
      code: 'ERR_DISK',
    });
    await expect(writeFileAtomically(join(folder, 'file', 'x'), bytes('abcdef'))).rejects.toMatchObject({
      code: 'ERR_DISK',
    });
    await expect(writeFileAtomically(join(folder, 'n'.repeat(300)), bytes('abcdef'))).rejects.toMatchObject({
      code: 'ERR_DISK',
    });
  });

  it.each(['open', 'write', 'sync'] as const)(
    'ends at an abort that comes with its %s, and leaves the old file',
    async (when) => {
      const path = join(folder, 'file');
      await writeFile(path, 'old');
      const controller = new AbortController();
      const reason = new Error('enough');
      const calls: DiskCalls = {
        ...realCalls,
        open: async (at, flags) => {
          const handle = await open(at, flags);
          if (when === 'open') controller.abort(reason);
          const write = (...args: unknown[]) => {
            if (when === 'write') controller.abort(reason);
            return (handle.write as (...a: unknown[]) => Promise<never>)(...args);
          };
          return { write, fd: handle.fd, close: () => handle.close() } as unknown as Awaited<
            ReturnType<DiskCalls['open']>
          >;
        },
        sync: async (fd) => {
          if (when === 'sync') controller.abort(reason);
          await realCalls.sync(fd);
        },
      };
      const { signal } = controller;
      await expect(writeFileAtomically(path, bytes('brand-new'), { signal, calls })).rejects.toBe(reason);
      expect(await readFile(path, 'utf8')).toBe('old');
      expect(await readdir(folder)).toEqual(['file']);
      await expect(writeFileAtomically(path, bytes('brand-new'), { signal })).rejects.toBe(reason);
      expect(await readdir(folder)).toEqual(['file']);
    },
  );

  it('is undone by process.exit(), and by nothing once it is done', async () => {
    const script = `
      const { writeFileAtomically, realCalls } = require(${JSON.stringify(compiled('checkpoint/disk.js'))});
      const path = require('node:path').join(process.argv[1], 'whole');
      const pieces = [Buffer.from('all of it')];
      const calls = { ...realCalls, sync: async () => process.exit(7) };
      writeFileAtomically(path, pieces).then(() => {
        if (process.listenerCount('exit') !== 0) throw new Error('somebody still listens');
        return writeFileAtomically(path.replace('whole', 'half'), pieces, { calls });
      });`;
    const { code, stderr } = await run(process.execPath, ['-e', script, folder]);
    expect({ code, stderr, names: await readdir(folder) }).toEqual({ code: 7, stderr: '', names: ['whole'] });
  });
});

describe('making a directory', () => {
  it('makes those above it, and is content with one that is there', async () => {
    await makeDirectory(join(folder, 'a', 'b', 'c'));
    await makeDirectory(join(folder, 'a', 'b', 'c'));
    await Promise.all(Array.from({ length: 8 }, () => makeDirectory(join(folder, 'd', 'e', 'f', 'g'))));
    expect(await readdir(join(folder, 'a', 'b'))).toEqual(['c']);
    expect(await readdir(join(folder, 'd', 'e', 'f'))).toEqual(['g']);
    await symlink(join(folder, 'a'), join(folder, 'link'));
    await makeDirectory(join(folder, 'link', 'z'));
    expect(await readdir(join(folder, 'a'))).toEqual(['b', 'z']);
  });

  it('refuses a file, a path through a file, a dangling link and a name too long', async () => {
    await writeFile(join(folder, 'file'), '');
    await symlink(join(folder, 'nowhere'), join(folder, 'dangling'));
    for (const path of ['file', 'file/x', 'file/x/y', 'dangling', 'dangling/x', 'n'.repeat(300)]) {
      await expect(makeDirectory(join(folder, path))).rejects.toMatchObject({
        code: 'ERR_DISK',
        message: expect.stringContaining(`cannot make the directory ${join(folder, path)}: `),
      });
    }
  });

  itWhere(process.platform === 'linux', 'no /proc')('does not hang where none can be made', async () => {
    for (const path of ['/proc/x', '/proc/x/y', '/proc/self/x', '/sys/x']) {
      await expect(makeDirectory(path)).rejects.toMatchObject({ code: 'ERR_DISK' });
    }
    const { code, stderr, stdout } = await node('train.js', ['--out', '/proc/x', '--hidden', '8', '--epochs', '1']);
    expect([code, stdout]).toEqual([5, '']);
    expect(stderr.trim().split('\n').at(-1)).toMatch(/^cannot make the directory \/proc\/x: /);
  });
});

describe('a run', () => {
  const text = 'a sheep and a goat went over the hill\n'.repeat(60);
  const tiny = [
    '--hidden',
    '8',
    '--layers',
    '1',
    '--batch-size',
    '4',
    '--seq-length',
    '10',
    '--sample-length',
    '0',
    '--patience',
    '0',
    '--device',
    'cpu',
    '--threads',
    '1',
  ];
  let corpus: string;
  let out: string;
  beforeEach(async () => {
    corpus = join(folder, 'corpus.txt');
    out = join(folder, 'run');
    await writeFile(corpus, text);
  });
  /** The folder of a trained run and its text, from which tests copy the run. */
  let trained: string | undefined;
  afterAll(() => trained && rm(trained, { recursive: true }));
  const train = async () => {
    if (trained === undefined) {
      trained = await mkdtemp(join(tmpdir(), 'trained-'));
      await chmod(trained, 0o755);
      const given = join(trained, 'corpus.txt');
      await writeFile(given, text);
      const argv = [given, ...tiny, '--epochs', '1', '--out', join(trained, 'run')];
      expect(await node('train.js', argv)).toMatchObject({ code: 0 });
    }
    await cp(join(trained, 'run'), out, { recursive: true });
  };

  /** Hashes of the last checkpoints and of `latest`. Checks that all checkpoints are intact, and that no temporary file or lock is left. */
  async function checkpoints(): Promise<string[]> {
    const names = (await readdir(out)).sort();
    expect(names.filter((name) => name.startsWith('.') || name === 'lock')).toEqual([]);
    const files = names.filter((name) => name.endsWith('.safetensors'));
    for (const name of files) await loadCheckpoint(join(out, name));
    expect(files).toContain((await readFile(join(out, 'best'), 'utf8')).trim());
    const lasts = [...files.filter((name) => name.startsWith('checkpoint-')), 'latest'];
    const hash = async (name: string) =>
      createHash('sha256')
        .update(await readFile(join(out, name)))
        .digest('hex');
    return Promise.all(lasts.map(async (name) => `${name} ${await hash(name)}`));
  }
  const oneLine = (stderr: string) =>
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^cannot write .*: .*(larger|no space)/);

  const trainCommand = `${JSON.stringify(process.execPath)} ${JSON.stringify(compiled('train.js'))}`;

  itWhere(canRun('bash', ['-c', 'ulimit -f 8']), 'no bash with ulimit')(
    'whose checkpoint meets a file size limit ends with exit code 5, and the one before is whole',
    async () => {
      await train();
      const before = await checkpoints();
      const { code, stderr } = await run('bash', [
        '-c',
        `ulimit -f 8; exec ${trainCommand} "$@"`,
        'train',
        '--resume',
        out,
        '--epochs',
        '3',
      ]);
      expect(code).toBe(5);
      oneLine(stderr);
      expect(await checkpoints()).toEqual(before);
      expect((await node('train.js', ['--resume', out, '--epochs', '2'])).code).toBe(0);
    },
  );

  const mounts = canRun('unshare', ['-rm', 'bash', '-c', 'mount -t tmpfs -o size=64k none /mnt']);
  itWhere(mounts, 'no mount in a name space of one’s own (unshare -rm)')(
    'that fills its disk ends with exit code 5, and the checkpoint before is whole',
    async () => {
      await mkdir(out);
      const script = `
        set -e
        mount -t tmpfs -o size=256k none "$1"
        cd "$1"
        ${trainCommand} "$2" "\${@:3}" --epochs 1 --out "$1/run" >/dev/null 2>&1
        sums() { (cd run && sha256sum checkpoint-* latest); }
        sums > sums-before
        dd if=/dev/zero of=filler bs=1k 2>/dev/null || true
        truncate -s -12k filler # Room for a part of a checkpoint.
        code=0; ${trainCommand} --resume run --epochs 3 2> /tmp/stderr-$$ >/dev/null || code=$?
        tail -1 /tmp/stderr-$$; rm /tmp/stderr-$$
        echo "code $code"
        [ "$(sums)" = "$(cat sums-before)" ] && echo unchanged
        ${JSON.stringify(process.execPath)} -e "require('${compiled('advanced.js')}').loadCheckpoint('run/' + require('fs').readFileSync('run/best', 'utf8').trim())"
        ls -A run
        rm filler
        ${trainCommand} --resume run --epochs 2 >/dev/null 2>&1 && echo resumed`;
      const { stdout, stderr } = await run('unshare', ['-rm', 'bash', '-c', script, 'bash', out, corpus, ...tiny]);
      expect(stderr).toBe('');
      expect(stdout).toMatch(/^cannot write .*: no space is left on the disk/);
      expect(stdout).toMatch(/\ncode 5\nunchanged\n/);
      expect(stdout).not.toMatch(/\n(\..*|lock)\n/);
      expect(stdout).toMatch(/\nresumed\n$/);
    },
  );

  // Root may write anywhere, so it runs these as another user. That user may have no access to the package or the folder, for example if
  // they are below /root.
  const uid = process.getuid?.() === 0 ? 65_534 : undefined;
  const look = 'for (const path of process.argv.slice(1)) require("node:fs").readdirSync(path)';
  const letIn =
    spawnSync(process.execPath, ['-e', look, packageRoot, dirname(compiled('train.js')), tmpdir()], {
      cwd: '/',
      ...(uid === undefined ? {} : { uid }),
    }).status === 0;
  const why = process.platform === 'win32' ? 'no permissions' : letIn ? undefined : 'nobody but root is let in here';
  itWhere(why === undefined, why ?? '')('in a directory it may not write to ends with exit code 5', async () => {
    await train();
    await chmod(folder, 0o755);
    await chmod(out, 0o555);
    try {
      const before = await checkpoints();
      for (const argv of [
        ['--resume', out, '--epochs', '3'],
        [corpus, ...tiny, '--out', join(out, 'sub', 'run')],
      ]) {
        const { code, stderr } = await node('train.js', argv, uid === undefined ? {} : { uid });
        expect([code, stderr]).toEqual([
          5,
          expect.stringMatching(
            /^(device: .*\n)?cannot (lock|make the directory) .*: permission denied; choose a directory you may write to with --out\n$/,
          ),
        ]);
      }
      expect(await checkpoints()).toEqual(before);
    } finally {
      await chmod(out, 0o755);
    }
  });

  itWhere(why === undefined, why ?? '')(
    'in a directory it may not look into ends with exit code 3 and does not say that nothing is there',
    async () => {
      await train();
      await chmod(folder, 0);
      try {
        for (const [name, ...argv] of [
          ['cli/main.js', 'sample', out],
          ['train.js', '--resume', out],
          ['train.js', folder],
        ] as const) {
          const { code, stderr } = await node(name, argv, uid === undefined ? {} : { uid });
          const message = /^cannot read .*: permission denied; its owner can let you read it\n$/;
          expect([code, stderr]).toEqual([3, expect.stringMatching(message)]);
        }
      } finally {
        await chmod(folder, 0o755);
      }
    },
  );

  itWhere(why === undefined, why ?? '')('whose names it may not read ends with exit code 3 too', async () => {
    await train();
    await chmod(folder, 0o755);
    await rm(join(out, 'best'));
    await chmod(out, 0o311);
    try {
      for (const [name, ...argv] of [
        ['cli/main.js', 'sample', out],
        ['cli/main.js', 'info', out],
        ['train.js', '--resume', out, '--dry-run'],
      ] as const) {
        const { code, stderr } = await node(name, argv, uid === undefined ? {} : { uid });
        expect([code, stderr]).toEqual([3, `cannot read ${out}: permission denied; its owner can let you read it\n`]);
      }
    } finally {
      await chmod(out, 0o755);
    }
  });

  it('makes its directory and those above it; none is made to resume', async () => {
    const deep = join(folder, 'a', 'b', 'run');
    expect((await node('train.js', [corpus, ...tiny, '--epochs', '1', '--out', deep])).code).toBe(0);
    expect(await readdir(deep)).toContain('latest');
    expect((await node('train.js', ['--resume', join(folder, 'none')])).code).toBe(3);
    expect(await readdir(folder)).not.toContain('none');
  });
});
