/**
 * Fetches Debian packages and unpacks them into a directory, without
 * installing anything: apt gets a root of its own (lists, cache and an empty
 * dpkg status) and works for i386 only, so the system's apt state and list of
 * architectures stay as they are. Only the sources and keys are the system's;
 * TABDISK_GUEST_SOURCES may name a sources file to use in their place.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Says that the packages cannot be had here, as opposed to a bug of ours. */
export class Unavailable extends Error {}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (result.error) throw new Unavailable(`cannot run ${command}: ${result.error.message}`);
  return result;
}

export class PrivateApt {
  constructor(root, architecture) {
    this.root = root;
    this.archives = join(root, 'archives');
    for (const part of ['lists/partial', 'cache/archives/partial', 'archives']) {
      mkdirSync(join(root, part), { recursive: true });
    }
    writeFileSync(join(root, 'status'), '');
    const lines = [
      `Dir::State "${root}";`,
      `Dir::State::lists "${join(root, 'lists')}";`,
      `Dir::State::status "${join(root, 'status')}";`,
      `Dir::Cache "${join(root, 'cache')}";`,
      `APT::Architecture "${architecture}";`,
      `APT::Architectures { "${architecture}"; };`,
      `Acquire::Languages "none";`,
      `Acquire::http::Timeout "20";`,
      // The unprivileged download user may not enter our directory.
      `APT::Sandbox::User "root";`,
    ];
    const sources = process.env.TABDISK_GUEST_SOURCES;
    if (sources) {
      lines.push(`Dir::Etc::sourcelist "${sources}";`, `Dir::Etc::sourceparts "-";`);
    }
    const config = join(root, 'apt.conf');
    writeFileSync(config, lines.join('\n') + '\n');
    this.options = { cwd: this.archives, env: { ...process.env, APT_CONFIG: config, LC_ALL: 'C' } };
  }

  /**
   * Refreshes the lists; returns apt's complaints. Failure is not final: a
   * mirror may lack one suite and still have all we want, so download() judges.
   */
  update() {
    // An unreachable source is a mere warning to apt, with exit status 0.
    return run('apt-get', ['-q', 'update'], this.options).stderr.trim();
  }

  /** The one package that meta package `name` depends on and `pattern` matches. */
  resolveMeta(name, pattern) {
    const result = run('apt-cache', ['depends', '--important', name], this.options);
    const found = [...result.stdout.matchAll(/Depends: (\S+)/g)].map((match) => match[1]);
    const target = found.find((candidate) => pattern.test(candidate));
    if (!target) throw new Unavailable(`apt knows no package ${name} for this architecture`);
    return target;
  }

  download(names) {
    const result = run('apt-get', ['-q', 'download', ...names], this.options);
    if (result.status !== 0) {
      throw new Unavailable(`apt-get download failed:\n${result.stderr.trim()}`);
    }
  }

  /** Unpacks all downloaded archives into `directory`; returns their names. */
  unpack(directory) {
    mkdirSync(directory, { recursive: true });
    const archives = readdirSync(this.archives)
      .filter((name) => name.endsWith('.deb'))
      .sort();
    for (const archive of archives) {
      const result = run('dpkg-deb', ['-x', archive, directory], this.options);
      if (result.status !== 0) throw new Error(`dpkg-deb -x ${archive}: ${result.stderr.trim()}`);
    }
    return archives;
  }
}
