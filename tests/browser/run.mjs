#!/usr/bin/env node
// Drives the real @4players/odin web client in headless Chromium against a gateway and a voice server, or against a voice
// server alone, and checks what that client experiences. README.md says how.
import http from 'node:http';
import os from 'node:os';
import fs from 'node:fs';
import path from 'node:path';
import crypto from 'node:crypto';
import readline from 'node:readline';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import esbuild from 'esbuild';

const here = path.dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const { TokenGenerator, generateAccessKey } = require('@4players/odin-tokens');

// ---- options ---------------------------------------------------------------------------------------------------------
const opt = { scenario: ['all'], json: false, verbose: false, chromium: '/usr/bin/chromium', seconds: 4, expiredLifetime: -7200, mic: 'tone' };
const av = process.argv.slice(2);
for (let i = 0; i < av.length; i++) {
  const k = av[i];
  const v = () => { const x = av[++i]; if (x === undefined) usage(`missing value for ${k}`); return x; };
  if (k === '--gateway') opt.gateway = v();
  else if (k === '--access-key') opt.key = v();
  else if (k === '--sfu') opt.sfu = v();
  else if (k === '--standalone') opt.standalone = true;
  else if (k === '--quic') opt.quic = v();
  else if (k === '--certificate-sha256') opt.hash = v();
  else if (k === '--native') opt.native = v();
  else if (k === '--scenario') opt.scenario = v().split(',');
  else if (k === '--skip') opt.skip = v().split(',');
  else if (k === '--json') opt.json = true;
  else if (k === '--list') opt.list = true;
  else if (k === '--verbose') opt.verbose = true;
  else if (k === '--chromium') opt.chromium = v();
  else if (k === '--seconds') opt.seconds = Number(v());
  else if (k === '--mic') opt.mic = v();
  else if (k === '--native-rate') opt.nativeRate = true;
  else if (k === '--sdk-src') opt.sdkSrc = path.resolve(v());
  else if (k === '--dump-packet') opt.dump = v();
  else usage(`unknown option ${k}`);
}
function usage(msg) {
  console.error(`${msg}\nusage: node run.mjs (--gateway https://127.0.0.1:7000 | --standalone) --access-key KEY [--sfu host:port] [--quic host:port --certificate-sha256 HEX --native PROGRAM] [--scenario a,b|all] [--skip a,b] [--json] [--seconds N] [--mic tone|fake] [--sdk-src DIR] [--native-rate] [--verbose] [--list]`);
  process.exit(2);
}

// ---- small tools -----------------------------------------------------------------------------------------------------
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
const toHex = (s) => Buffer.from(s).toString('hex');
const r1 = (x) => Math.round(x * 10) / 10;
const r4 = (x) => Math.round(x * 10000) / 10000;
class Fail extends Error {}
const must = (cond, msg) => { if (!cond) throw new Fail(msg); };
const pct = (a, p) => { const s = [...a].sort((x, y) => x - y); return s.length ? s[Math.min(s.length - 1, Math.floor((p / 100) * s.length))] : NaN; };
async function until(what, fn, ms = 5000, step = 40) {
  const end = Date.now() + ms;
  for (;;) {
    const v = await fn();
    if (v) return v;
    if (Date.now() > end) throw new Fail(`timed out after ${ms} ms: ${what}`);
    await sleep(step);
  }
}
const deadline = (p, ms, what) => Promise.race([p, sleep(ms).then(() => { throw new Fail(`timed out after ${ms} ms: ${what}`); })]);

// ---- one browser page = one client -------------------------------------------------------------------------------------
let browserCtx, pageUrl;
// Old clients always ask a gateway. Without one, its answer is made inside the page: the token goes to the voice server.
const STANDALONE = 'https://standalone.invalid/';
const answerAsGateway = (route) => {
  const token = (route.request().headers().authorization ?? '').replace('Bearer ', '');
  route.fulfill({ status: 200, headers: { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }, contentType: 'application/json', body: JSON.stringify({ jsonrpc: '2.0', id: 1, result: { address: opt.sfu, token } }) });
};
class Client {
  static async open(name) {
    const c = new Client();
    c.name = name;
    c.page = await browserCtx.newPage();
    c.console = [];
    c.page.on('console', (m) => { c.console.push(`${m.type()}: ${m.text()}`); if (opt.verbose) console.error(`[${name}] ${m.type()}: ${m.text()}`); });
    c.page.on('pageerror', (e) => { c.console.push(`pageerror: ${e.message}`); if (opt.verbose) console.error(`[${name}] pageerror: ${e.message}`); });
    if (opt.standalone) await c.page.route(`${STANDALONE}**`, answerAsGateway);
    await c.page.goto(pageUrl);
    await c.page.waitForFunction('window.H && window.H.ready');
    return c;
  }
  call(method, ...args) { return this.page.evaluate(([m, a]) => window.H.api[m](...a), [method, args]); }
  events() { return this.page.evaluate(() => window.H.events); }
  async event(name, pred = () => true, ms = 5000, what) {
    return until(what ?? `${this.name}: event ${name}`, async () => (await this.events()).find((e) => e.name === name && pred(e)), ms);
  }
  async count(name, pred = () => true) { return (await this.events()).filter((e) => e.name === name && pred(e)).length; }
  init(token, gateway = opt.gateway) { return deadline(this.call('init', token, gateway), 15000, `${this.name}: initRooms`); }
  async enter(room, { data, pos, token } = {}) {
    this.i = await this.init(token ?? tok(room, this.name));
    this.j = await deadline(this.call('join', data, pos), 8000, `${this.name}: join (no usable RoomUpdated/Joined arrived)`);
    await this.event('dc-open', () => true, 6000, `${this.name}: data channel did not open (WebRTC)`);
    return this;
  }
  stats() { return this.call('stats'); }
  async rx(mediaId) { return (await this.stats()).rx.find((s) => s.id === mediaId); }
  close() { return this.page.close().catch(() => {}); }
}
const gen = () => new TokenGenerator(opt.key);
// clients are placed at the same point unless a scenario says otherwise, so that culling cannot interfere
const ORIGIN = () => (opt.sdkSrc ? [0, 0, 0] : [0, 0]);
const tok = (room, user, o) => gen().createToken(room, user, o);
// what opens the room on the voice server itself, for clients that ask no gateway of their own
const admission = async (room, user) => (await admitted(room, user)).token;
async function admitted(room, user, subject = 'connect') {
  if (opt.standalone) return { address: opt.sfu, token: tok(room, user, { audience: 'sfu', subject }) };
  const answer = await browserCtx.request.post(opt.gateway, { headers: { authorization: `Bearer ${tok(room, user, { subject })}` }, data: { jsonrpc: '2.0', id: 1, method: 'Connect', params: {} } });
  const { result, error } = await answer.json();
  must(result, `the gateway refused ${user}: ${JSON.stringify(error)}`);
  return result;
}
// says where a room's users are, as its game server does
async function gameServer(room) {
  const { address, token } = await admitted(room, 'game server', ['connect', 'positions']);
  return async (batch) => {
    const answer = await browserCtx.request.post(`https://${address}/positions`, { headers: { authorization: `Bearer ${token}` }, data: batch });
    must(answer.ok(), `the voice server refused a batch: ${answer.status()} ${await answer.text()}`);
    return (await answer.json()).present;
  };
}
let roomNo = 0;
const newRoom = (n) => `${n}-${process.pid}-${++roomNo}-${crypto.randomBytes(3).toString('hex')}`;

// run fn with clients that are closed afterwards
async function withClients(names, fn) {
  const cs = [];
  try {
    for (const n of names) cs.push(await Client.open(n));
    const out = await fn(...cs);
    for (const c of cs) { const oob = c.console.find((x) => /memory access out of bounds|RuntimeError/.test(x)); must(!oob, `${c.name}: the SDK's audio worker crashed (${oob})`); }
    return out;
  } catch (e) {
    e.diag = (await Promise.all(cs.map(async (c) => {
      const st = await c.stats().catch(() => null);
      const ws = await c.page.evaluate(() => window.H.ws.map((w) => `${w.url.replace(/\?.*/, '?…')} ${w.state} ${w.code ?? ''}`)).catch(() => []);
      return [`${c.name}: ws=[${ws.join('; ')}] dc=${st?.dc} errors=${JSON.stringify((st?.errors ?? []).slice(0, 4))} console=${JSON.stringify(c.console.slice(-3))}`];
    }))).flat();
    throw e;
  } finally {
    for (const c of cs) { await c.call('leave').catch(() => {}); await c.close(); }
  }
}
const at = (o = {}) => ({ pos: ORIGIN(), ...o });
const freq = (i) => (opt.mic === 'fake' ? 0 : [440, 1000, 1700][i]);

// B listens to A's media for some seconds; returns figures and checks them
async function heard(B, A, mediaId, f, seconds = opt.seconds, { minPps = 40, maxLoss = 2 } = {}) {
  await B.call('reset'); await A.call('reset');
  const listen = await B.call('listen', seconds * 1000, f ? [f] : []);
  const s = await B.rx(mediaId), t = (await A.stats()).tx.find((x) => x.id === mediaId);
  must(t && t.packets > 0, `${A.name} sent no voice packets`);
  must(s, `${B.name} received no packet for media ${mediaId}`);
  const pps = s.packets / seconds, loss = 100 * (1 - s.unique / Math.max(1, s.expected));
  const delivered = 100 * (s.unique / t.packets);
  const fig = { packets: s.packets, pps: r1(pps), loss: r1(loss), rms: r4(listen.rms), ...(f ? { peakHz: Math.round(listen.peakHz), toneDb: r1(listen.tones[0]) } : {}) };
  must(opt.mic === 'fake' || pps >= minPps, `${B.name} got ${r1(pps)} packets/s from ${A.name} (want >= ${minPps}; sender sent ${t.packets} in the window)`);
  must(loss <= maxLoss && delivered >= 100 - maxLoss - 3, `loss ${r1(loss)}% by sequence numbers, ${r1(delivered)}% delivered`);
  must(s.packets === s.unique, `duplicate packets: ${s.packets - s.unique}`);
  must(listen.rms > 0.005, `${B.name} decoded no audible energy (rms ${listen.rms}, audio context ${listen.ctx}; packets did arrive)`);
  if (f) must(Math.abs(listen.peakHz - f) < 40, `${B.name} hears ${Math.round(listen.peakHz)} Hz, ${A.name} sends ${f} Hz`);
  return fig;
}
async function silent(B, ms, what, mediaId) {
  await B.call('reset');
  const l = await B.call('listen', ms, []);
  const st = await B.stats();
  const n = st.rx.filter((s) => mediaId === undefined || s.id === mediaId).reduce((a, s) => a + s.packets, 0);
  must(n === 0, `${what}: ${B.name} still received ${n} packets in ${ms} ms`);
  return { packets: n, rms: r4(l.rms) };
}
// a rejected login must surface an error in the client; a login that works is the failure
async function rejected(token, { gateway, anyError = false } = {}) {
  return withClients(['X'], async (X) => {
    let err, res;
    try { res = await X.init(token, gateway); } catch (e) { err = e; }
    must(!(err instanceof Fail), `the client hung: ${err?.message}`);
    must(err, `login was accepted (rooms ${JSON.stringify(res?.rooms)})`);
    const msg = err.message.replace(/^page\.evaluate: /, '').replace(/\n\s+at [\s\S]*$/, '').replace(/\s*\n\s*/g, ' | ');
    const useful = anyError || !/Cannot read propert|Failed to fetch|is not valid JSON|Unexpected end of JSON/.test(msg);
    must(useful, `rejected, but the client shows no server reason: ${msg}`);
    return { error: msg.slice(0, 160) };
  });
}

// ---- scenarios -------------------------------------------------------------------------------------------------------
const S = {
  'connect-join': () => withClients(['A'], async (A) => {
    const room = newRoom('cj');
    await A.enter(room, at({ data: 'hello' }));
    must(A.j.state === 'connected', `room state ${A.j.state}`);
    must(A.i.rooms.length === 1 && A.i.rooms[0] === room, `rooms ${JSON.stringify(A.i.rooms)}`);
    must(A.j.userId === 'A', `own user id ${A.j.userId}`);
    must(typeof A.j.customer === 'string', 'customer missing');
    must((await A.count('PeerJoined', (e) => e.remote)) === 0, 'a remote peer was announced in an empty room');
    must((await A.count('Joined')) === 1, 'no Joined event');
    const dc = (await A.event('dc-open')).t;
    await sleep(500);
    must((await A.call('stats')).dc === 'open', 'data channel closed again');
    return { initMs: r1(A.i.ms), joinMs: r1(A.j.ms), peerId: A.j.peerId, customer: A.j.customer, address: A.i.address };
  }),

  'two-peers-voice': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('v2');
    await A.enter(room, at()); await B.enter(room, at());
    const a = await A.call('talk', freq(0));
    await B.event('MediaStarted', (e) => e.media === a.mediaId && e.peer === A.j.peerId && e.remote);
    await B.event('MediaActivity', (e) => e.media === a.mediaId && e.peer === A.j.peerId && e.active === true);
    await sleep(600);
    const fig = await heard(B, A, a.mediaId, freq(0));
    const st = await B.stats();
    const d = st.audioStats?.decoder;
    must(d && d.packets_processed > 0, `AudioStats shows no processed packets: ${JSON.stringify(d)}`);
    // the decoder refuses datagrams shorter than 40 bytes with code -1 (a talker's first packet, comfort noise); that is normal
    const bad = B.console.filter((x) => /failed to enqueue packet \(code: (?!-1\))/.test(x));
    must(bad.length === 0, `the decoder rejected ${bad.length} packets: ${bad[0]}`);
    if (opt.dump) fs.writeFileSync(opt.dump, Buffer.from((await A.page.evaluate(() => window.H.sample)) ?? []));
    return { ...fig, startMs: r1(a.ms), processed: d.packets_processed, invalid: d.packets_invalid, lost: d.packets_lost };
  }),

  'three-peers-fanout': () => withClients(['A', 'B', 'C'], async (A, B, C) => {
    const room = newRoom('v3');
    await A.enter(room, at()); await B.enter(room, at()); await C.enter(room, at());
    const a = await A.call('talk', freq(0));
    await sleep(800);
    const fb = await heard(B, A, a.mediaId, freq(0), Math.max(2, opt.seconds / 2));
    const fc = await heard(C, A, a.mediaId, freq(0), Math.max(2, opt.seconds / 2));
    const own = (await A.stats()).rx.reduce((n, s) => n + s.packets, 0);
    must(own === 0, `A got ${own} packets back (echo of its own media?)`);
    const b = await B.call('talk', freq(1));
    must(b.mediaId !== a.mediaId, `A and B were both given media id ${a.mediaId}`);
    await sleep(800);
    await Promise.all([A, B, C].map((x) => x.call('reset')));
    const l = await C.call('listen', 2000, [440, 1000]);
    const ids = (await C.stats()).rx.map((s) => s.id).sort();
    must(ids.includes(a.mediaId) && ids.includes(b.mediaId), `C receives media ${ids}, wanted ${a.mediaId} and ${b.mediaId}`);
    if (opt.mic !== 'fake') must(l.tones.every((x) => x > -60), `C does not hear both tones: ${l.tones.map(r1)} dB`);
    const aIds = (await A.stats()).rx.map((s) => s.id);
    must(aIds.length === 1 && aIds[0] === b.mediaId, `A receives media ${aIds}, wanted only ${b.mediaId}`);
    return { bPps: fb.pps, cPps: fc.pps, bLoss: fb.loss, cLoss: fc.loss, tonesDb: l.tones.map(r1).join('/') };
  }),

  'peer-user-data': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('ud');
    await A.enter(room, at({ data: 'initial-A' })); await B.enter(room, at({ data: 'initial-B' }));
    const pj = await A.event('PeerJoined', (e) => e.peer === B.j.peerId);
    must(pj.data === toHex('initial-B'), `A sees B's initial data as ${pj.data}`);
    must(pj.userId === 'B', `A sees B's user id as ${pj.userId}`);
    must((await B.call('peers'))[0]?.data === toHex('initial-A'), `B sees A's initial data as ${(await B.call('peers'))[0]?.data}`);
    const t0 = Date.now();
    await deadline(B.call('setData', 'changed'), 6000, 'UpdatePeer got no response');
    const e = await A.event('PeerUserDataChanged', (x) => x.peer === B.j.peerId);
    must(e.data === toHex('changed'), `changed data arrived as ${e.data}`);
    const ms = Date.now() - t0;
    await deadline(B.call('setData', ''), 6000, 'UpdatePeer (empty) got no response');
    await A.event('PeerUserDataChanged', (x) => x.data === '', 3000, 'A was not told of emptied user data');
    return { updateMs: ms, selfEvents: await B.count('PeerUserDataChanged') };
  }),

  'message-broadcast': () => withClients(['A', 'B', 'C'], async (A, B, C) => {
    const room = newRoom('mb');
    await A.enter(room, at()); await B.enter(room, at()); await C.enter(room, at());
    await deadline(A.call('send', 'to all'), 6000, 'SendMessage got no response');
    for (const x of [B, C]) {
      const e = await x.event('MessageReceived', () => true, 4000);
      must(e.from === A.j.peerId && e.data === toHex('to all'), `${x.name} got ${JSON.stringify(e)}`);
    }
    await sleep(300);
    must((await B.count('MessageReceived')) === 1, 'B got the broadcast more than once');
    return { senderAlsoGetsIt: (await A.count('MessageReceived')) > 0 };
  }),

  'message-targeted': () => withClients(['A', 'B', 'C'], async (A, B, C) => {
    const room = newRoom('mt');
    await A.enter(room, at()); await B.enter(room, at()); await C.enter(room, at());
    await deadline(A.call('send', 'only C', [C.j.peerId]), 6000, 'SendMessage got no response');
    const e = await C.event('MessageReceived', () => true, 4000);
    must(e.from === A.j.peerId && e.data === toHex('only C'), `C got ${JSON.stringify(e)}`);
    await sleep(700);
    must((await B.count('MessageReceived')) === 0, 'B got a message meant for C only');
    return {};
  }),

  'stop-media': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('sm');
    await A.enter(room, at()); await B.enter(room, at());
    const a = await A.call('talk', freq(0));
    await B.event('MediaActivity', (e) => e.active === true);
    await sleep(500);
    await deadline(A.call('stopTalk'), 6000, 'StopMedia got no response');
    await B.event('MediaStopped', (e) => e.media === a.mediaId && e.peer === A.j.peerId);
    await sleep(300);
    await silent(B, 1500, 'after StopMedia');
    const again = await A.call('talk', freq(0));
    must(again.mediaId === a.mediaId, 'client changed its media id (unexpected for this SDK)');
    await until('B: second MediaStarted', async () => (await B.count('MediaStarted', (e) => e.remote)) >= 2);
    await sleep(800);
    const fig = await heard(B, A, a.mediaId, freq(0), 2);
    return { restartedPps: fig.pps, restartedRms: fig.rms };
  }),

  leave: () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('lv');
    await A.enter(room, at()); await B.enter(room, at());
    const a = await A.call('talk', freq(0));
    await B.event('MediaStarted', (e) => e.media === a.mediaId);
    const t0 = Date.now();
    await A.call('leave');
    await B.event('PeerLeft', (e) => e.peer === A.j.peerId && e.userId === 'A');
    const ms = Date.now() - t0;
    must((await B.count('MediaStopped', (e) => e.media === a.mediaId)) >= 1, 'no MediaStopped for the leaving peer');
    must((await B.call('peers')).length === 0, 'B still lists the peer');
    await silent(B, 800, 'after leave');
    return { peerLeftMs: ms };
  }),

  'leave-abrupt': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('la');
    await A.enter(room, at()); await B.enter(room, at());
    await A.call('talk', freq(0));
    const t0 = Date.now();
    await A.page.close();
    await B.event('PeerLeft', (e) => e.peer === A.j.peerId, 20000);
    return { peerLeftMs: Date.now() - t0 };
  }),

  'late-joiner': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('lj');
    await A.enter(room, at({ data: 'first' }));
    const a = await A.call('talk', freq(0));
    await sleep(1500);
    await B.enter(room, at());
    const pj = await B.event('PeerJoined', (e) => e.peer === A.j.peerId);
    must(pj.data === toHex('first') && pj.userId === 'A', `existing peer arrived as ${JSON.stringify(pj)}`);
    must(pj.medias.length === 1 && pj.medias[0] === a.mediaId, `existing medias arrived as ${JSON.stringify(pj.medias)}, wanted [${a.mediaId}]`);
    await B.event('MediaActivity', (e) => e.media === a.mediaId && e.active === true);
    await sleep(600);
    const fig = await heard(B, A, a.mediaId, freq(0), 2);
    must((await A.count('PeerJoined', (e) => e.peer === B.j.peerId)) === 1, 'A was told of B not exactly once');
    return { pps: fig.pps, rms: fig.rms };
  }),

  'bad-token': async () => {
    const other = new TokenGenerator(generateAccessKey());
    const room = newRoom('bt');
    const good = tok(room, 'X');
    const [h, c, s] = good.split('.');
    const flip = Buffer.from(s, 'base64url'); flip[7] ^= 0x40;
    const claims = JSON.parse(Buffer.from(c, 'base64url')); claims.uid = 'admin';
    const out = {};
    out.badSignature = (await rejected(`${h}.${c}.${flip.toString('base64url')}`)).error;
    out.changedClaims = (await rejected(`${h}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${s}`)).error;
    out.unknownKey = (await rejected(other.createToken(room, 'X'))).error;
    const none = Buffer.from(JSON.stringify({ alg: 'none', kid: JSON.parse(Buffer.from(h, 'base64url')).kid })).toString('base64url');
    out.algNone = (await rejected(`${none}.${c}.`)).error;
    out.garbage = (await rejected('abc.def.ghi', { anyError: !!opt.sdkSrc })).error; // newer SDKs parse the token themselves
    return out;
  },

  // exp two hours back: well outside the 300 s leeway of the public gateway
  'expired-token': async () => ({ error: (await rejected(tok(newRoom('et'), 'X', { lifetime: opt.expiredLifetime }))).error }),

  // aud "gateway" is fine at a gateway, aud "sfu" is not
  audience: async () => {
    const room = newRoom('au');
    const ok = await withClients(['A'], async (A) => { await A.enter(room, at({ token: tok(room, 'A', { audience: 'gateway' }) })); return A.j.state; });
    must(ok === 'connected', 'token with aud=gateway was not accepted');
    return { error: (await rejected(tok(room, 'X', { audience: 'sfu' }))).error };
  },

  'custom-claims': () => withClients(['A'], async (A) => {
    const room = newRoom('cc');
    await A.enter(room, at({ token: tok(room, 'A', { customer: 'acme', lifetime: 60 }) }));
    return { customer: A.j.customer };
  }),

  'room-isolation': () => withClients(['A', 'B', 'C', 'D'], async (A, B, C, D) => {
    const r1_ = newRoom('iso1'), r2 = newRoom('iso2');
    await A.enter(r1_, at()); await B.enter(r1_, at()); await C.enter(r2, at()); await D.enter(r2, at());
    const a = await A.call('talk', freq(0)), c = await C.call('talk', freq(1));
    await sleep(1000);
    await Promise.all([A, B, C, D].map((x) => x.call('reset')));
    const [lb, ld] = await Promise.all([B.call('listen', 2500, [440, 1000]), D.call('listen', 2500, [440, 1000])]);
    for (const [x, talker, l, i] of [[B, A, lb, 0], [D, C, ld, 1]]) {
      const peers = (await x.events()).filter((e) => e.name === 'PeerJoined' && e.remote).map((e) => e.peer);
      must(peers.length === 1, `${x.name} was told of ${peers.length} remote peers`);
      const tx = (await talker.stats()).tx.reduce((n, s) => n + s.packets, 0), rx = (await x.stats()).rx.reduce((n, s) => n + s.packets, 0);
      must(rx > 0, `${x.name} hears nothing of its own room`);
      must(rx <= tx * 1.1 + 5, `${x.name} received ${rx} packets, its room's talker sent ${tx}: leak`);
      if (opt.mic !== 'fake') must(l.tones[i] > -50 && l.tones[1 - i] < l.tones[i] - 25, `${x.name} tones 440/1000 Hz: ${l.tones.map(r1)} dB`);
    }
    await A.call('send', 'room 1 only');
    await B.event('MessageReceived');
    await sleep(400);
    must((await C.count('MessageReceived')) + (await D.count('MessageReceived')) === 0, 'a message crossed rooms');
    return { mediaIds: `${a.mediaId}/${c.mediaId}`, bDb: lb.tones.map(r1).join('/'), dDb: ld.tones.map(r1).join('/') };
  }),

  // positions: unit radius. Reports how the server signals the change (PeerLeft/PeerJoined or only silence).
  'position-culling': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('pos'), z = opt.sdkSrc ? [0] : [];
    await A.enter(room, { pos: [0, 0, ...z] }); await B.enter(room, { pos: [0.2, 0, ...z] });
    const a = await A.call('talk', freq(0));
    await B.event('MediaActivity', (e) => e.active === true);
    await sleep(500);
    const near = await heard(B, A, a.mediaId, freq(0), 1.5);
    await A.call('position', [50, 0, ...z]);
    await sleep(700);
    const far = await silent(B, 1500, 'A is 50 units away');
    const leftSignalled = (await B.count('PeerLeft', (e) => e.peer === A.j.peerId)) > 0;
    await B.call('send', 'far away');
    const msg = await A.event('MessageReceived', () => true, 1500).then(() => true, () => false);
    await A.call('position', [0.3, 0, ...z]);
    await sleep(1200);
    const back = await heard(B, A, a.mediaId, freq(0), 1.5);
    const still = (await B.call('peers')).length;
    must(still === 1, `after coming back B lists ${still} peers`);
    return { nearPps: near.pps, farPackets: far.packets, backPps: back.pps, peerLeftSignalled: leftSignalled, messageWhileFar: msg };
  }),

  // the game server says where everybody is: a client that sends itself everywhere hears only whom it may
  'server-positions': () => withClients(['A', 'B', 'C'], async (A, B, C) => {
    const room = newRoom('gs'), z = opt.sdkSrc ? [0] : [];
    const says = await gameServer(room);
    await says({ positions: { A: [10, 0], B: [10, 0.5], C: [90, 0] } });
    for (const client of [A, B, C]) await client.enter(room, at());
    const a = await A.call('talk', freq(0)), b = await B.call('talk', freq(1)), c = await C.call('talk', freq(2));
    let moves = 0, cheats = true;
    const everywhere = [[10, 0], [10, 0.5], [0, 0], [10, -0.5], [90, 0], [50, 50]];
    const cheating = (async () => {
      for (; cheats; moves++) { await C.call('position', [...everywhere[moves % everywhere.length], ...z]); await sleep(120); }
    })();
    try {
      await sleep(800);
      const ids = async (client) => (await client.stats()).rx.map((s) => s.id).sort().join();
      const near = await heard(B, A, a.mediaId, freq(0), 2);
      await silent(C, 2000, 'the game server has put C far away');
      must(moves > 20, `only ${moves} moves`);
      must((await C.call('peers')).length === 0, 'C was told of peers that it must not know');
      must(await ids(A) === String(b.mediaId), `A hears ${await ids(A)}, wanted B alone`);

      // near A, and not near B
      must(await says({ positions: { C: [10, -0.6] } }) === 1, 'C is not in the room for its game server');
      await sleep(700);
      const allowed = await heard(C, A, a.mediaId, freq(0), 2);
      must(await ids(C) === String(a.mediaId), `C hears ${await ids(C)}, wanted A alone`);
      await Promise.all([A, B].map((client) => client.call('reset')));
      await sleep(1000);
      must(await ids(A) === [b.mediaId, c.mediaId].sort().join(), `A hears ${await ids(A)}, wanted B and C`);
      must(await ids(B) === String(a.mediaId), `B hears ${await ids(B)}, wanted A alone`);

      // C is not to hear A, others are
      await says({ mutes: [{ user_id: 'A', listener_id: 'C', mute_time: 60, reason: 'spectator' }] });
      await sleep(400);
      await silent(C, 1500, 'A is muted for C');
      await heard(B, A, a.mediaId, freq(0), 1.5);
      await says({ unmutes: [{ user_id: 'A', listener_id: 'C' }] });
      await sleep(400);
      const again = await heard(C, A, a.mediaId, freq(0), 1.5);
      return { moves, nearPps: near.pps, allowedPps: allowed.pps, unmutedPps: again.pps };
    } finally {
      cheats = false;
      await cheating.catch(() => {});
    }
  }),

  latency: () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('lat');
    await A.enter(room, at()); await B.enter(room, at());
    const a = await A.call('talk', freq(0));
    await sleep(1500);
    await A.call('clockServe');
    const off = await B.call('clockOffset'); // A's clock minus B's clock
    await Promise.all([A.call('reset'), B.call('reset')]);
    await sleep(Math.max(5, opt.seconds) * 1000);
    const rx = await B.call('log', 'rx'), tx = await A.call('log', 'tx');
    const sent = new Map(tx.map(([m, s, t]) => [`${m}:${s}`, t]));
    const lat = [], order = [];
    let last;
    for (const [m, s, t] of rx) { if (m !== a.mediaId) continue; const t0 = sent.get(`${m}:${s}`); if (t0 !== undefined) lat.push(t + off.off - t0); if (last !== undefined && ((s - last) | 0) < 0) order.push(s); last = s; }
    must(lat.length > 50, `only ${lat.length} packets could be matched`);
    const p50 = pct(lat, 50), p99 = pct(lat, 99);
    must(p99 < 150, `p99 ${r1(p99)} ms`);
    return { samples: lat.length, p50ms: r1(p50), p90ms: r1(pct(lat, 90)), p99ms: r1(p99), maxMs: r1(Math.max(...lat)), reordered: order.length, clockRttMs: r1(off.rtt) };
  }),

  // the SDK must survive longer than the server's ping/timeout settings with no traffic of its own
  'idle-keepalive': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('idle');
    await A.enter(room, at()); await B.enter(room, at());
    await sleep(20000);
    must((await A.count('Left')) + (await B.count('Left')) === 0, 'an idle client was disconnected within 20 s');
    await deadline(A.call('send', 'still there'), 6000, 'no response after idling');
    await B.event('MessageReceived');
    must((await A.stats()).dc === 'open', 'data channel closed while idle');
    const a = await A.call('talk', freq(0));
    await sleep(700);
    const f = await heard(B, A, a.mediaId, freq(0), 1.5);
    return { pps: f.pps };
  }),

  'multi-room-token': () => withClients(['A', 'B'], async (A, B) => {
    const base = newRoom('mr');
    const i = await A.init(tok([`${base}`, `${base}`], 'A'));
    must(i.rooms.length >= 1, 'no rooms');
    return { rooms: i.rooms.length };
  }),

  'room-user-data': () => withClients(['A', 'B'], async (A, B) => {
    const room = newRoom('rud');
    await A.enter(room, at()); await B.enter(room, at());
    await deadline(A.call('setRoomData', 'shared'), 6000, 'UpdateRoom got no response');
    const e = await B.event('RoomUserDataChanged');
    must(e.data === toHex('shared'), `room data arrived as ${e.data}`);
    return {};
  }),

  'pause-media': () => withClients(['A', 'B', 'C'], async (A, B, C) => {
    const room = newRoom('pm');
    await A.enter(room, at());
    if (!(await A.call('canPause'))) return { skip: 'this SDK has no pauseMedia (added in 0.17.0); use --sdk-src' };
    await B.enter(room, at()); await C.enter(room, at());
    const a = await A.call('talk', freq(0));
    await B.event('MediaActivity', (e) => e.active === true);
    await sleep(500);
    await deadline(B.call('pause', a.mediaId, true), 6000, 'PauseMedia got no response');
    await sleep(300);
    await silent(B, 1200, 'paused', a.mediaId);
    await C.call('reset'); await sleep(1000);
    must(((await C.rx(a.mediaId))?.packets ?? 0) > 20, 'pausing at B silenced C too');
    await deadline(B.call('pause', a.mediaId, false), 6000, 'ResumeMedia got no response');
    await sleep(900);
    const f = await heard(B, A, a.mediaId, freq(0), 1.5);
    return { resumedPps: f.pps };
  }),

  // token made by the access key with aud "sfu", handed straight to the SFU (what SDK >= 0.17 does by itself).
  // 0.16.0 always asks a gateway first, so the gateway's answer is faked inside the page.
  'direct-sfu': async () => {
    if (!opt.sfu) return { skip: 'needs --sfu host:port' };
    const room = newRoom('ds'), token = tok(room, 'A', { audience: 'sfu' });
    return withClients(['A'], async (A) => {
      await A.page.route('https://fake-gateway.invalid/**', (r) => r.fulfill({ status: 200, headers: { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }, contentType: 'application/json', body: JSON.stringify({ jsonrpc: '2.0', id: 1, result: { address: opt.sfu, token } }) }));
      const i = opt.sdkSrc ? await A.init(token, opt.sfu) : await A.init(token, 'https://fake-gateway.invalid/');
      const j = await deadline(A.call('join', 'x', ORIGIN()), 8000, 'join');
      must(j.state === 'connected', `state ${j.state}`);
      return { initMs: r1(i.ms), joinMs: r1(j.ms) };
    });
  },

  // a page over WebTransport, the real web client over its data channel, and a native program: one room
  'three-transports': async () => {
    if (!opt.quic || !opt.hash || !opt.native) return { skip: 'needs --quic, --certificate-sha256 and --native' };
    const room = newRoom('tt');
    const page = await browserCtx.newPage();
    try {
      await page.goto(new URL('/native', pageUrl).href);
      await page.waitForFunction('window.N && window.N.ready');
      const own = await deadline(page.evaluate((o) => window.N.join(o), { address: opt.quic, hash: opt.hash, token: await admission(room, 'page'), room, user: 'page' }), 8000, 'the page did not join over WebTransport');
      return await withClients(['A'], async (A) => {
        await A.enter(room, at());
        const a = await A.call('talk', freq(0));
        const native = nativeVoice(room, await admission(room, 'native'), opt.seconds + 4);
        const media = await deadline(native.media, 8000, 'the native program did not join');
        await page.evaluate(() => window.N.talk());
        await sleep(1500);
        await A.call('reset');
        const before = await page.evaluate(() => window.N.heard);
        await sleep(opt.seconds * 1000);
        const after = await page.evaluate(() => window.N.heard);
        const rate = (m) => ((after[m]?.packets ?? 0) - (before[m]?.packets ?? 0)) / opt.seconds;
        const byWeb = async (m) => ((await A.rx(m))?.packets ?? 0) / opt.seconds;
        const figures = { pageHearsNative: r1(rate(media)), pageHearsWeb: r1(rate(a.mediaId)), webHearsPage: r1(await byWeb(own.media)), webHearsNative: r1(await byWeb(media)) };
        const heard = await deadline(native.heard, (opt.seconds + 8) * 1000, 'the native program did not end');
        figures.nativeHeardPage = heard[own.media] ?? 0;
        figures.nativeHeardWeb = heard[a.mediaId] ?? 0;
        const sequences = after[media].sequences;
        must(new Set(sequences).size === sequences.length, 'the page got packets twice');
        for (const [what, pps] of Object.entries(figures)) must(what.startsWith('native') ? pps > opt.seconds * 40 : pps >= 45 && pps <= 56, `${what}: ${pps} (${JSON.stringify(figures)})`);
        return figures;
      });
    } finally {
      await page.evaluate(() => window.N.leave?.()).catch(() => {});
      await page.close().catch(() => {});
    }
  },
};
// Runs the native program; it says which media it talks with, and at its end how many packets of which it has heard.
function nativeVoice(room, token, seconds) {
  const child = spawn(opt.native, ['--server', opt.quic, '--certificate-sha256', opt.hash, '--room', room, '--seconds', String(seconds)], { env: { ...process.env, VOICE_TOKEN: token }, stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Fail('the native program ended too early');
    return JSON.parse(value);
  };
  const media = next().then((line) => line.media);
  const heard = media.then(next).then((line) => line.heard);
  heard.catch(() => {});
  return { media, heard };
}
// what a voice server cannot decide alone
const GATEWAY_ONLY = new Set(['audience']);
const OPTIONAL = new Set(['room-user-data', 'multi-room-token']); // only when named, or with "everything"

if (opt.list) { console.log(Object.keys(S).join('\n')); process.exit(0); }
if (opt.standalone) opt.gateway = STANDALONE;
if (!opt.gateway || !opt.key) usage('--gateway (or --standalone) and --access-key are required');
if (opt.standalone && !opt.sfu) usage('--standalone needs --sfu');
let names = opt.scenario.includes('everything') ? Object.keys(S) : opt.scenario.includes('all') ? Object.keys(S).filter((n) => !OPTIONAL.has(n)) : opt.scenario;
for (const n of names) if (!S[n]) usage(`unknown scenario ${n}; known: ${Object.keys(S).join(', ')}`);
if (opt.skip) names = names.filter((n) => !opt.skip.includes(n));
if (opt.standalone) names = names.filter((n) => !GATEWAY_ONLY.has(n));

// ---- bundle, page server, browser ------------------------------------------------------------------------------------
const built = await esbuild.build({
  entryPoints: [path.join(here, 'page.js')], bundle: true, write: false, format: 'iife', platform: 'browser', target: 'es2020', logLevel: 'error',
  nodePaths: [path.join(here, 'node_modules')],
  ...(opt.sdkSrc ? { alias: { '@4players/odin': path.join(opt.sdkSrc, 'index.ts') } } : {}),
});
const bundle = built.outputFiles[0].contents;
const native = await esbuild.build({ entryPoints: [path.join(here, 'native.js')], bundle: true, write: false, format: 'iife', platform: 'browser', target: 'es2022', logLevel: 'error', nodePaths: [path.join(here, 'node_modules')] });
const site = http.createServer((q, s) => {
  if (q.url.startsWith('/page.js')) { s.writeHead(200, { 'content-type': 'text/javascript' }); s.end(bundle); }
  else if (q.url.startsWith('/native.js')) { s.writeHead(200, { 'content-type': 'text/javascript' }); s.end(native.outputFiles[0].contents); }
  else if (q.url.startsWith('/native')) { s.writeHead(200, { 'content-type': 'text/html' }); s.end('<!doctype html><meta charset="utf-8"><title>WebTransport</title><script src="/native.js"></script>'); }
  else { s.writeHead(200, { 'content-type': 'text/html' }); s.end(fs.readFileSync(path.join(here, 'page.html'))); }
});
await new Promise((r) => site.listen(0, '127.0.0.1', r));
pageUrl = `http://127.0.0.1:${site.address().port}/${opt.nativeRate ? '?native-rate' : ''}`;
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'odin-harness-'));
browserCtx = await chromium.launchPersistentContext(profile, {
  executablePath: opt.chromium, headless: true, ignoreHTTPSErrors: true, permissions: ['microphone'],
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required', '--ignore-certificate-errors', '--allow-loopback-in-peer-connection', '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--disable-dev-shm-usage'],
});
const version = browserCtx.browser()?.version();
const nativeRate = await Client.open('probe').then(async (c) => { const r = await c.page.evaluate(() => window.H.nativeRate); await c.close(); return r; });

// ---- run -------------------------------------------------------------------------------------------------------------
const results = [];
let failed = 0;
try {
  for (const name of names) {
    const t0 = Date.now();
    let res;
    try {
      const f = await deadline(S[name](), 90000, `scenario ${name}`);
      res = f.skip ? { name, status: 'SKIP', reason: f.skip } : { name, status: 'PASS', figures: f };
    } catch (e) {
      failed++;
      res = { name, status: 'FAIL', reason: e.message.split('\n    at ')[0].replace(/\s*\n\s*/g, ' | ').slice(0, 500), diag: e.diag };
    }
    res.ms = Date.now() - t0;
    results.push(res);
    if (!opt.json) {
      const fig = res.figures ? Object.entries(res.figures).map(([k, v]) => `${k}=${typeof v === 'string' && v.includes(' ') ? JSON.stringify(v) : v}`).join(' ') : res.reason;
      console.log(`${res.status} ${name.padEnd(19)} ${fig}`);
      if (res.diag) for (const d of res.diag) console.log(`     ${d}`);
    }
  }
} finally {
  await browserCtx.close().catch(() => {});
  site.close();
  fs.rmSync(profile, { recursive: true, force: true });
}
const summary = { passed: results.filter((r) => r.status === 'PASS').length, failed, skipped: results.filter((r) => r.status === 'SKIP').length };
if (opt.json) console.log(JSON.stringify({ nativeSampleRate: nativeRate, sdk: opt.sdkSrc ? `source ${opt.sdkSrc}` : `@4players/odin ${require('@4players/odin/package.json').version}`, chromium: version, gateway: opt.gateway, summary, results }, null, 2));
else console.log(`${summary.passed} passed, ${summary.failed} failed, ${summary.skipped} skipped (Chromium ${version ?? '?'})`);
process.exit(failed ? 1 : 0);
