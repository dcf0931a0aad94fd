#!/usr/bin/env node
// Runs the conformance cases against a gateway program, one profile after another, each with a gateway of its own.
//
//   node suite.mjs --gateway PROGRAM [--profiles default,basic,…]
//
// A case may contradict a way in which the gateway differs on purpose. Such a case is listed in DEVIATIONS with the
// setting that makes it pass; it must fail without the setting and pass with it.
import crypto from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as L from './lib.mjs';

const DEVIATIONS = {
  'room.prefix-is-enough': 'room_match = "prefix"',
  'room.hash-tag-shares-server': 'room_match = "prefix"',
};
const FAST = { 'update-interval': 1, 'disable-timeout': 1.5, 'remove-timeout': 6, lifetime: 5 };
const PROFILES = {
  default: {},
  basic: { basic: 'username:password' },
  demo: { root: 'unknown_customers = { max_peers = 2, max_rooms = 5 }' },
  open: { root: 'unknown_customers = "unlimited"', noCustomers: true },
  pools: { sections: '[pools]\navailable = ["main", "beta"]\ndefault = "main"\n', args: ['--pools', 'main,beta'] },
  fast: { timing: FAST },
  api: { customersFile: true },
};

const here = path.dirname(fileURLToPath(import.meta.url));
const argument = (name) => { const at = process.argv.indexOf(`--${name}`); return at < 0 ? undefined : process.argv[at + 1]; };
const gateway = argument('gateway');
const wanted = argument('profiles')?.split(',') ?? Object.keys(PROFILES);
const unknown = wanted.filter((name) => !(name in PROFILES));
if (!gateway || unknown.length) {
  console.error(`usage: node suite.mjs --gateway PROGRAM [--profiles ${Object.keys(PROFILES).join(',')}]`);
  process.exit(2);
}

function newKey() {
  const accessKey = L.generateAccessKey();
  const key = L.keyFromAccessKey(accessKey);
  return { accessKey, kid: key.kid, x: L.b64u(key.publicKey) };
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => resolve(port)); });
  });
}

const jwk = (key) => `kid = "${key.kid}"\nkty = "OKP"\ncrv = "Ed25519"\nx = "${key.x}"\n`;
const tomlKey = (key, namespace) => `[[customers.access_keys]]\n${namespace ? `namespace = "${namespace}"\n` : ''}${jwk(key)}`;
const jsonKey = (key, namespace) => ({ ...(namespace && { namespace }), publicKey: { kid: key.kid, kty: 'OKP', crv: 'Ed25519', x: key.x } });

// Writes the settings of a profile; gives the runner's arguments.
async function settings(name, folder, extraRoot) {
  const profile = PROFILES[name];
  const [main, namespaced, limited] = [newKey(), newKey(), newKey()];
  const master = crypto.randomBytes(32).toString('base64');
  const port = await freePort();
  const timing = { 'update-interval': 5, 'disable-timeout': 7.5, 'remove-timeout': 600, lifetime: 300, ...profile.timing };
  let text = `listen = "127.0.0.1:${port}"\ntoken_lifetime = ${timing.lifetime}\n${profile.root ?? ''}\n${extraRoot ?? ''}\n`;
  if (!profile.basic) text += 'allow_unauthenticated_internal = true\n';
  text += `[sfu]\nmetrics_server = "0.0.0.0/0"\nupdate_interval = ${timing['update-interval']}\n`;
  text += `disable_timeout = ${timing['disable-timeout']}\nremove_timeout = ${timing['remove-timeout']}\n${profile.sections ?? ''}`;
  const args = ['--profile', name, '--json', '--strict', '--external', `http://127.0.0.1:${port}/`, '--internal', `http://127.0.0.1:${port}/internal`,
    '--access-key', main.accessKey, '--master-key', master, ...(profile.args ?? [])];
  if (!profile.noCustomers) args.push('--namespaced-access-key', namespaced.accessKey, '--namespace', 'other', '--limited-access-key', limited.accessKey);
  for (const key in timing) args.push(`--${key}`, String(timing[key]));
  if (profile.basic) {
    text += '[[internal.users]]\nname = "username"\npassword_env = "INTERNAL_PASSWORD"\n';
    args.push('--internal-basic', profile.basic);
  }
  if (profile.customersFile) {
    const file = path.join(folder, 'customers.json');
    fs.writeFileSync(file, JSON.stringify([
      { id: 'foo', accessKeys: [jsonKey(main), jsonKey(namespaced, 'other')] },
      { id: 'limited', maxPeers: 2, maxRooms: 2, accessKeys: [jsonKey(limited)] },
    ]));
    text += `[customer_api]\nfile = ${JSON.stringify(file)}\nupdate_interval = 1\n`;
    args.push('--customers-file', file);
  } else if (!profile.noCustomers) {
    text += `[[customers]]\nid = "foo"\n${tomlKey(main)}${tomlKey(namespaced, 'other')}`;
    text += `[[customers]]\nid = "limited"\nmax_peers = 2\nmax_rooms = 2\n${tomlKey(limited)}`;
  }
  const file = path.join(folder, 'gateway.toml');
  fs.writeFileSync(file, text, { mode: 0o600 });
  return { file, port, args, env: { BIFROST_GATEWAY_MASTER_KEY: master, INTERNAL_PASSWORD: 'password' } };
}

async function listening(port, child) {
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`the gateway ended with ${child.exitCode}`);
    const open = await new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); }).once('error', () => resolve(false));
    });
    if (open) return;
    await L.sleep(0.05);
  }
  throw new Error('the gateway does not listen');
}

// Runs cases of a profile against a fresh gateway; gives their results.
async function run(name, extraRoot, only) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gateway-interop-'));
  const { file, port, args, env } = await settings(name, folder, extraRoot);
  const child = spawn(gateway, ['--config', file], { env: { ...process.env, ...env, RUST_LOG: 'warn' }, stdio: 'inherit' });
  const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
  try {
    await listening(port, child);
    const runner = spawn(process.execPath, [path.join(here, 'run.mjs'), ...args, ...(only ? ['--only', only] : [])], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    for await (const chunk of runner.stdout) output += chunk;
    const { results } = JSON.parse(output);
    if (!results.length) throw new Error('no case was run');
    return results;
  } finally {
    child.kill('SIGTERM');
    const code = await ended;
    if (code !== 0) throw new Error(`the gateway ended with ${code} after SIGTERM`);
    fs.rmSync(folder, { recursive: true });
  }
}

let failures = 0;
function judge(title, results, expected = {}) {
  const problems = [];
  for (const { name, status, detail } of results) {
    if (name in expected && status !== 'FAIL') problems.push(`${name} is listed as a deviation and does not fail`);
    if (!(name in expected) && status === 'FAIL') problems.push(`${name}: ${detail}`);
  }
  const count = (status) => results.filter((result) => result.status === status).length;
  const listed = results.filter(({ name }) => name in expected).length;
  console.log(`${title}: ${count('PASS')} passed, ${count('FAIL') - listed} failed, ${listed} differ on purpose, ${count('SKIP')} skipped`);
  for (const problem of problems) console.log(`  ${problem}`);
  failures += problems.length;
}

for (const name of wanted) {
  const results = await run(name);
  const deviations = Object.fromEntries(Object.entries(DEVIATIONS).filter(([c]) => results.some((r) => r.name === c)));
  judge(name, results, deviations);
  for (const setting of new Set(Object.values(deviations))) {
    const cases = Object.keys(deviations).filter((c) => deviations[c] === setting);
    judge(`${name}, ${setting}`, await run(name, setting, `^(${cases.map((c) => c.replace(/\./g, '\\.')).join('|')})$`));
  }
}
process.exit(failures ? 1 : 0);
