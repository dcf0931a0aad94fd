#!/usr/bin/env node
// Holds `bifrost access-key`, `bifrost token` and `bifrost config` against the npm package @4players/odin-tokens and
// against node:crypto, in both directions.
//
//   node run.mjs --bifrost PROGRAM
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import odin from '@4players/odin-tokens';

const KEYS = 16; // in each direction: enough for every character of Base64 in keys and ids
const at = process.argv.indexOf('--bifrost');
const program = at < 0 ? undefined : process.argv[at + 1];
if (!program) {
  console.error('usage: node run.mjs --bifrost PROGRAM');
  process.exit(2);
}
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'bifrost-tokens-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

let passed = 0;
const failures = [];
function check(name, body) {
  try {
    body();
    passed += 1;
  } catch (error) {
    failures.push(name);
    console.error(`FAILED  ${name}\n        ${error.message.replaceAll('\n', '\n        ')}`);
  }
}

function bifrost(args, input = '') {
  const { error, status, stdout, stderr } = spawnSync(program, args, { input, encoding: 'utf8', timeout: 20_000 });
  if (error) throw error;
  return { status, stdout, stderr };
}
function output(args, input) {
  const run = bifrost(args, input);
  assert.deepEqual({ status: run.status, stderr: run.stderr }, { status: 0, stderr: '' }, args.join(' '));
  return run.stdout.trimEnd();
}
const json = (args, input) => JSON.parse(output([...args, '--json'], input));

let files = 0;
function file(text) {
  const name = path.join(folder, String(files++));
  fs.writeFileSync(name, text, { mode: 0o600 });
  return name;
}

const b64u = (bytes) => Buffer.from(bytes).toString('base64url');
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const jwkOf = (publicKey) => ({ kty: 'OKP', crv: 'Ed25519', x: b64u(publicKey) });

// With node:crypto, which shares no code with either side.
function isSigned(token, publicKey) {
  const [header, claims, signature] = token.split('.');
  const key = crypto.createPublicKey({ key: jwkOf(publicKey), format: 'jwk' });
  return crypto.verify(null, Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, 'base64url'));
}
function signWith(privateKey, header, claims) {
  const signed = `${b64u(JSON.stringify(header))}.${b64u(JSON.stringify(claims))}`;
  return `${signed}.${b64u(crypto.sign(null, Buffer.from(signed), privateKey))}`;
}

// What the token library is asked for, as flags.
function flags(rooms, user, { customer, audience, subject, lifetime } = {}) {
  const flag = (name, value) => [value ?? []].flat().flatMap((it) => [`--${name}`, String(it)]);
  return [
    ...flag('room', rooms), '--user', user,
    ...flag('customer', customer), ...flag('audience', audience), ...flag('subject', subject), ...flag('lifetime', lifetime),
  ];
}
function* combinations() {
  for (const rooms of ['lobby', ['{team}a', 'Raum "ü"']]) {
    for (const customer of [undefined, '<no_customer>']) {
      for (const audience of [undefined, 'gateway', 'sfu']) {
        for (const subject of [undefined, 'roomclose', ['connect', 'roomclose']]) {
          for (const lifetime of [undefined, 3600]) yield { rooms, options: { customer, audience, subject, lifetime } };
        }
      }
    }
  }
}

function keysOfTheLibrary() {
  for (let i = 0; i < KEYS; i += 1) {
    const accessKey = odin.generateAccessKey();
    check(`key ${i} of the library: id, public and private half`, () => {
      const { publicKey, secretKey } = odin.loadAccessKey(accessKey);
      const wanted = { kid: odin.getKeyId(publicKey), ...jwkOf(publicKey) };
      assert.deepEqual(json(['access-key', 'public'], accessKey), wanted);
      assert.deepEqual(json(['config', 'sfu', '--with-private'], accessKey), { ...wanted, d: b64u(secretKey.slice(0, 32)) });
      const { kid, x } = wanted;
      assert.deepEqual(json(['access-key', 'inspect'], accessKey), { kid, x, version: 1, published: false });
    });
  }
}

function keysOfBifrost() {
  for (let i = 0; i < KEYS; i += 1) {
    check(`key ${i} of bifrost: loaded by the library`, () => {
      const name = path.join(folder, `new-${i}`);
      const made = json(['access-key', 'new', '--out', name]);
      assert.equal(fs.statSync(name).mode & 0o777, 0o600);
      const { publicKey } = odin.loadAccessKey(fs.readFileSync(name, 'utf8').trim());
      assert.deepEqual(made, { file: name, kid: odin.getKeyId(publicKey), x: b64u(publicKey) });
    });
  }
}

// Every combination of the library's options: its token is accepted, and bifrost writes the same bytes.
function tokensOfTheLibrary() {
  const accessKey = odin.generateAccessKey();
  const keyFile = file(accessKey);
  const jwkFile = file(output(['access-key', 'public'], accessKey));
  const generator = new odin.TokenGenerator(accessKey);
  for (const { rooms, options } of combinations()) {
    check(`token of the library: ${JSON.stringify({ rooms, options })}`, () => {
      const token = generator.createToken(rooms, 'jürgen', options);
      const audience = options.audience ? ['--audience', options.audience] : [];
      const verdict = json(['token', 'verify', '--key-file', keyFile, ...audience], token);
      assert.deepEqual(verdict.claims, claimsOf(token));
      assert.equal(verdict.accepted, true);
      output(['token', 'verify', '--jwk-file', jwkFile, ...audience], token);
      const begin = ['--not-before', String(claimsOf(token).nbf)];
      const same = output(['token', 'sign', '--key-file', keyFile, ...begin, ...flags(rooms, 'jürgen', options)]);
      assert.equal(same, token);
    });
  }
  check('token of the library for a user without a name', () => {
    const token = generator.createToken('lobby', '');
    assert.equal(json(['token', 'verify', '--key-file', keyFile], token).claims.uid, '');
  });
}

function tokensOfBifrost() {
  const keyFile = path.join(folder, 'signing');
  output(['access-key', 'new', '--out', keyFile]);
  const { publicKey } = odin.loadAccessKey(fs.readFileSync(keyFile, 'utf8').trim());
  const header = { alg: 'EdDSA', kid: odin.getKeyId(publicKey) };
  const sign = (args) => output(['token', 'sign', '--key-file', keyFile, ...args]);
  for (const { rooms, options } of combinations()) {
    check(`token of bifrost: ${JSON.stringify({ rooms, options })}`, () => {
      const before = Math.floor(Date.now() / 1000);
      const token = sign(flags(rooms, 'u', options));
      const after = Math.floor(Date.now() / 1000);
      assert.ok(isSigned(token, publicKey), 'the signature is not that of the key');
      assert.deepEqual(JSON.parse(Buffer.from(token.split('.')[0], 'base64url')), header);
      const { nbf, exp, ...claims } = claimsOf(token);
      assert.ok(nbf >= before && nbf <= after, `nbf ${nbf} is not now`);
      assert.equal(exp - nbf, options.lifetime ?? 300);
      const { customer: cid, audience: aud, subject: sub = 'connect' } = options;
      assert.deepEqual(claims, { rid: rooms, uid: 'u', sub, ...(cid && { cid }), ...(aud && { aud }) });
    });
  }
  check('token of bifrost with all claims', () => {
    const token = sign([
      ...flags('r', 'u', { customer: 'c', audience: ['gateway', 'sfu'] }), '--namespace', 'n', '--address', 's:1',
      '--tag', 'a', '--tag', 'b', '--upstream', 'up', '--server', 's:2', '--not-before', '1700000000',
    ]);
    assert.ok(isSigned(token, publicKey), 'the signature is not that of the key');
    assert.deepEqual(claimsOf(token), {
      rid: 'r', uid: 'u', adr: 's:1', tgs: ['a', 'b'], ups: 'up', cid: 'c', nsp: 'n', sub: 'connect',
      aud: ['gateway', 'sfu'], exp: 1700000300, nbf: 1700000000, internal: { server: 's:2' },
    });
  });
  check('a token signed by node:crypto with the printed private key', () => {
    const jwk = json(['config', 'sfu', '--with-private', '--key-file', keyFile]);
    const token = signWith(crypto.createPrivateKey({ key: jwk, format: 'jwk' }), header, { rid: 'r', uid: 'u' });
    assert.equal(json(['token', 'verify', '--key-file', keyFile], token).accepted, true);
  });
}

function refusals() {
  const accessKey = odin.generateAccessKey();
  const keyFile = file(accessKey);
  const token = new odin.TokenGenerator(accessKey).createToken('r', 'u', { audience: 'sfu' });
  const [header, claims, signature] = token.split('.');
  const refused = (name, it, reason, args = []) => check(`refused: ${name}`, () => {
    const run = bifrost(['token', 'verify', '--key-file', keyFile, ...args], it);
    assert.deepEqual({ status: run.status, stdout: run.stdout }, { status: 1, stdout: '' });
    assert.match(run.stderr, reason);
  });
  const createdAt = (seconds) => {
    const { now } = Date;
    Date.now = () => now() + seconds * 1000;
    try {
      return new odin.TokenGenerator(accessKey).createToken('r', 'u');
    } finally {
      Date.now = now;
    }
  };
  check('accepted: the token that the others are made from', () => output(['token', 'verify', '--key-file', keyFile], token));

  refused('another key', new odin.TokenGenerator(odin.generateAccessKey()).createToken('r', 'u'), /signed with key/);
  const impostor = crypto.generateKeyPairSync('ed25519').privateKey;
  const { kid } = JSON.parse(Buffer.from(header, 'base64url'));
  refused('another key under the same id', signWith(impostor, { alg: 'EdDSA', kid }, claimsOf(token)), /invalid signature/);
  const promoted = b64u(JSON.stringify({ ...claimsOf(token), sub: 'roomclose' }));
  refused('changed claims', `${header}.${promoted}.${signature}`, /invalid signature/);
  for (const position of [0, 31, 32, 63]) {
    const bytes = Buffer.from(signature, 'base64url');
    bytes[position] ^= 1;
    refused(`byte ${position} of the signature`, `${header}.${claims}.${b64u(bytes)}`, /invalid signature/);
  }
  refused('no signature', `${header}.${claims}.`, /64 bytes/);
  refused('no algorithm', `${b64u(JSON.stringify({ alg: 'none', kid }))}.${claims}.`, /not been signed/);
  refused('two segments', `${header}.${claims}`, /three segments/);
  refused('another audience', token, /audience does not match/, ['--audience', 'gateway']);
  refused('expired', createdAt(-310), /has expired/);
  refused('expired beyond the leeway', createdAt(-320), /has expired/, ['--leeway-ms', '15000']);
  refused('not yet valid', createdAt(60), /not yet valid/);
  check('accepted: expired within the leeway', () => {
    output(['token', 'verify', '--key-file', keyFile, '--leeway-ms', '60000'], createdAt(-310));
  });
  check('a mistyped access key is refused by both', () => {
    const bytes = Buffer.from(accessKey, 'base64');
    bytes[7] ^= 1;
    const mistyped = bytes.toString('base64');
    assert.throws(() => odin.loadAccessKey(mistyped));
    const run = bifrost(['access-key', 'inspect'], mistyped);
    assert.equal(run.status, 64);
    assert.ok(!run.stderr.includes(mistyped));
  });
}

keysOfTheLibrary();
keysOfBifrost();
tokensOfTheLibrary();
tokensOfBifrost();
refusals();
console.log(`tokens: ${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length ? 1 : 0;
