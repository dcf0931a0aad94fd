// The voice room: gets a place on a voice server, then lets this page talk and listen.
import { call, Problem, signIn } from './api.js';
import { find, make, say } from './dom.js';
import { brief, named } from './servers.js';
import { Sound } from './sound.js';
import { Room } from './voice.js';

/** Matches that are offered. */
const MATCHES_MAX = 100;

/** Above this somebody counts as talking; Opus makes a little noise of silence. */
const TALKING = 0.01;

/** Between two looks at levels and figures. */
const LOOK_MS = 100;

let room = null;
let sound = null;
let seat = null;
/** Peers by id: `{ name, medias, element, level, total }`. */
const peers = new Map();
/** Talkers by media id. */
const talkers = new Map();
const owners = new Map();
let ownLevel = 0;

const may = await signIn('read');
find('content').hidden = false;
find('name').value = `guest-${crypto.randomUUID().slice(0, 4)}`;
const byMatch = may.access === 'write' && may.matches && may.voice;
await offer();
const wanted = new URLSearchParams(location.search).get('match');
if (wanted && byMatch) {
  find('match').value = wanted;
  if (find('match').value !== wanted) say(find('problem'), 'This match does not run any more.');
}
find('join').addEventListener('submit', enter);
find('other-way').addEventListener('click', () => choose(!find('by-match').hidden));
find('leave').addEventListener('click', () => leave('You have left the room.'));
find('mute').addEventListener('click', mute);
find('volume').addEventListener('input', volume);
document.addEventListener('keydown', key);
addEventListener('pagehide', () => room?.leave());
setInterval(look, LOOK_MS);

/** Lets choose among the matches that run. */
async function offer() {
  if (!byMatch) return choose(true);
  const { matches } = await call('GET', `/v1/matches?state=running&limit=${MATCHES_MAX}`);
  const options = matches.map((match) => make('option', { value: match.id }, `${brief(match.id)} in ${named(match.instance?.city)}`));
  const chosen = find('match').value;
  find('match').replaceChildren(...options);
  if (matches.some((match) => match.id === chosen)) find('match').value = chosen;
  choose(matches.length === 0);
}

/** One of the two ways in. */
function choose(withToken) {
  find('by-match').hidden = withToken;
  find('by-token').hidden = !withToken;
  for (const id of ['voice-token', 'voice-room']) find(id).required = withToken;
  find('other-way').hidden = !byMatch || find('match').options.length === 0;
  say(find('other-way'), withToken ? 'Choose a match' : 'Use a voice token');
}

async function enter(event) {
  event.preventDefault();
  const button = find('join-button');
  button.disabled = true;
  say(find('problem'), '');
  state('entering', 'pending');
  try {
    const name = find('name').value.trim();
    const place = find('by-match').hidden ? await placeByToken() : await placeByMatch(name);
    sound = await Sound.open();
    volume();
    room = await Room.enter({ ...place, name }, { heard, peer, left, medias, ended: leave });
    await sound.record(find('source').value, {
      packet: (opus) => room?.talk(opus),
      level: (level) => { ownLevel = level; },
    });
    say(find('room-title'), place.title);
    find('join').hidden = true;
    find('inside').hidden = false;
    state('in the room', 'live');
    find('mute').focus();
  } catch (error) {
    await leave(words(error));
  }
  button.disabled = false;
}

function words(error) {
  if (error instanceof Problem) return `The bridge refuses (${error.kind}): ${error.message}`;
  if (error.name === 'NotAllowedError') return 'The microphone may not be used; choose the test tone, or allow it.';
  if (error.name === 'NotFoundError') return 'There is no microphone; choose the test tone.';
  return error.message;
}

/** A seat in the match, its voice token, and the voice server that the gateway chooses for it. */
async function placeByMatch(name) {
  const id = find('match').value;
  const match = `/v1/matches/${encodeURIComponent(id)}`;
  const path = `${match}/players`;
  const user = `${name}-${crypto.randomUUID().slice(0, 8)}`;
  const { players } = await call('POST', path, { body: { players: [{ user_id: user }] } });
  seat = { match, path: `${path}/${encodeURIComponent(user)}` };
  await call('POST', `${seat.path}/confirm`);
  const voice = players[0]?.voice;
  if (!voice) throw new Error('This match has no voice.');
  const server = await call('POST', '/v1/voice/connect', { body: { token: voice.token } });
  return { address: server.address, certificate: server.certificate_sha256, token: server.token, room: voice.rooms[0].name, title: `Match ${brief(id)}` };
}

async function placeByToken() {
  const [token, name] = [find('voice-token').value.trim(), find('voice-room').value.trim()];
  const [address, certificate] = [find('voice-server').value.trim(), find('voice-certificate').value.trim()];
  if (address) return { address, certificate, token, room: name, title: name };
  const server = await call('POST', '/v1/voice/connect', { body: { token } });
  return { address: server.address, certificate: certificate || server.certificate_sha256, token: server.token, room: name, title: name };
}

/** Ends everything, and says why. */
async function leave(why) {
  room?.leave();
  sound?.close();
  const taken = seat;
  [room, sound, seat, ownLevel] = [null, null, null, 0];
  talkers.clear();
  owners.clear();
  for (const id of [...peers.keys()]) left(id);
  find('inside').hidden = true;
  find('join').hidden = false;
  find('mute').setAttribute('aria-pressed', 'false');
  say(find('mute'), 'Mute');
  say(find('problem'), why);
  state('not in a room', '');
  if (taken) await giveBack(taken).catch(() => {});
  if (byMatch) await offer().catch(() => {});
}

/** Frees the seat for the next one; in a match that is over there is none any more. */
async function giveBack({ match, path }) {
  const { state } = await call('GET', match);
  if (state === 'running') await call('DELETE', path);
}

function state(word, kind) {
  say(find('connection'), word);
  find('connection').className = `badge ${kind}`;
}

function peer(id, name, started) {
  if (!peers.has(id)) {
    const meter = make('meter', { min: 0, max: 0.5, 'aria-label': `How loud ${name} is` });
    const word = make('span', { class: 'badge' }, 'silent');
    const element = make('li', { 'data-peer': id }, make('span', {}, name), word, meter);
    find('peers').append(element);
    peers.set(id, { name, medias: new Set(), element, word, meter, level: 0, total: 0 });
  }
  medias(id, started, []);
}

function left(id) {
  const gone = peers.get(id);
  if (!gone) return;
  medias(id, [], [...gone.medias]);
  gone.element.remove();
  peers.delete(id);
}

function medias(id, started, stopped) {
  const one = peers.get(id);
  if (!one) return;
  for (const media of started) {
    one.medias.add(media);
    owners.set(media, one);
  }
  for (const media of stopped) {
    one.medias.delete(media);
    owners.delete(media);
    talkers.get(media)?.close();
    talkers.delete(media);
  }
}

function heard(media, sequence, opus) {
  const one = owners.get(media);
  if (!one || !sound) return;
  let talker = talkers.get(media);
  if (!talker) {
    talker = sound.talker((level) => {
      one.level = Math.max(one.level, level);
      one.total += level;
    });
    talkers.set(media, talker);
  }
  talker.push(sequence, opus);
}

function look() {
  if (!room) return;
  find('own-level').value = ownLevel;
  find('alone').hidden = peers.size > 0;
  for (const one of peers.values()) {
    one.meter.value = one.level;
    const isTalking = one.level > TALKING;
    say(one.word, isTalking ? 'talking' : 'silent');
    one.word.className = `badge ${isTalking ? 'live' : ''}`;
    one.element.dataset.energy = one.total.toFixed(3);
    one.level *= 0.6;
  }
  const all = [...talkers.values()];
  const sum = (name) => all.reduce((total, talker) => total + talker[name], 0);
  say(find('figures'), `${room.sent} packets sent, ${sum('packets')} heard, ${sum('lost')} lost`);
}

function mute() {
  if (!sound) return;
  sound.muted = !sound.muted;
  find('mute').setAttribute('aria-pressed', String(sound.muted));
  say(find('mute'), sound.muted ? 'Muted' : 'Mute');
}

function volume() {
  if (sound) sound.volume.gain.value = Number(find('volume').value);
}

function key(event) {
  const isTyping = event.target instanceof HTMLInputElement && event.target.type !== 'range';
  if (!room || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'm' || event.key === 'M') mute();
  else if (event.key === 'Escape') leave('You have left the room.');
}
