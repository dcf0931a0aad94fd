// Matches: the list with its buttons, and the timeline of what became of them.
import { Problem, call } from './api.js';
import { badge, clock, draw, find, make, say, span } from './dom.js';
import { brief, get as server, named } from './servers.js';

/** Matches that are remembered here; those that ended first are forgotten first. */
const MATCHES_MAX = 200;

/** Rows of the list. */
const ROWS_MAX = 50;

/** Lanes of the timeline. */
const LANES_MAX = 10;

/** Lines of the log. */
const LINES_MAX = 100;

/** What the timeline shows. */
const WINDOW_MS = 5 * 60_000;

/** Seats of a match that is started here: enough for whoever comes to talk. */
const SEATS = 8;

/** Pixels: of a lane, between two, of the names at the left, of the narrowest picture, of the axis. */
const LANE = { height: 22, gap: 6, left: 110, width: 300, axis: 20 };

const matches = new Map();
let may = { access: 'none' };
let planned = false;

/** Begins to show; `access` is what the caller may do. */
export function begin(access) {
  may = access;
  const controls = may.access === 'write' && may.controls && may.matches;
  find('start').hidden = !controls;
  find('start').addEventListener('submit', start);
  // What is under way grows with the time.
  setInterval(plan, 1_000);
  addEventListener('resize', plan);
}

/** Reads the matches that are not over. */
export async function load() {
  const states = ['pending', 'running', 'ending'];
  const lists = await Promise.all(states.map((state) => call('GET', `/v1/matches?state=${state}&limit=${MATCHES_MAX}`)));
  const found = new Map(lists.flatMap((list) => list.matches).map((match) => [match.id, match]));
  for (const known of matches.values()) {
    // It ended while nobody told.
    if (known.state !== 'ended' && !found.has(known.id)) move(known, 'ended', new Date());
  }
  for (const match of found.values()) {
    const known = remember(match.id);
    if (known.steps.length === 0) {
      move(known, 'pending', new Date(match.created_at));
      if (match.started_at) move(known, 'running', new Date(match.started_at));
    }
    move(known, match.state, new Date());
    Object.assign(known, { instance: match.instance?.id ?? null, city: match.instance?.city, players: match.players.length });
  }
  plan();
}

/** What an event says of a match. */
export function told(kind, { at, data }) {
  const known = remember(data.id);
  move(known, data.state, new Date(at));
  Object.assign(known, { instance: data.instance, players: data.players, reason: data.reason });
  known.city = server(data.instance)?.city ?? known.city;
  const where = known.city ? ` on server ${data.instance} in ${named(known.city)}` : '';
  const why = data.reason ? ` (${data.reason})` : '';
  log(new Date(at), kind, `${brief(data.id)}${where}${why}`);
  plan();
}

function remember(id) {
  let known = matches.get(id);
  if (known) return known;
  known = { id, state: null, steps: [], instance: null, city: null, players: 0, reason: null };
  matches.set(id, known);
  for (const old of matches.values()) {
    if (matches.size <= MATCHES_MAX) break;
    if (old.state === 'ended') matches.delete(old.id);
  }
  return known;
}

function move(match, state, at) {
  if (match.state === state) return;
  match.state = state;
  match.steps.push({ state, at });
}

function log(at, kind, text) {
  const line = make('li', {}, make('time', { datetime: at.toISOString() }, clock(at)), ' ', make('b', {}, kind), ' ', text);
  find('log').prepend(line);
  while (find('log').children.length > LINES_MAX) find('log').lastChild.remove();
}

function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    const newest = [...matches.values()].sort((a, b) => b.id.localeCompare(a.id));
    showList(newest.slice(0, ROWS_MAX));
    showTimeline(newest);
  });
}

function showList(newest) {
  find('no-matches').hidden = newest.length > 0;
  find('match-table').hidden = newest.length === 0;
  const body = find('matches');
  const rows = new Map([...body.children].map((row) => [row.dataset.match, row]));
  newest.forEach((match, at) => {
    const row = rows.get(match.id) ?? rowOf(match);
    rows.delete(match.id);
    update(row, match);
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
  });
  for (const row of rows.values()) row.remove();
}

function rowOf(match) {
  const row = make('tr', { 'data-match': match.id });
  row.append(
    make('th', { scope: 'row', class: 'id', title: match.id }, brief(match.id)),
    make('td', {}),
    make('td', {}),
    make('td', { class: 'number' }),
    make('td', { class: 'number' }),
    make('td', { class: 'actions' }),
  );
  return row;
}

function update(row, match) {
  const [, state, place, players, age, actions] = row.children;
  if (row.dataset.state !== match.state) {
    row.dataset.state = match.state;
    state.replaceChildren(badge(match.state), match.reason ? ` ${match.reason}` : '');
    actions.replaceChildren(...buttons(match));
  }
  say(place, match.instance ? `${match.instance}, ${named(match.city)}` : '–');
  say(players, String(match.players));
  const end = match.state === 'ended' ? match.steps.at(-1).at : new Date();
  say(age, span(end - match.steps[0].at));
}

function buttons(match) {
  if (may.access !== 'write' || !may.controls || match.state !== 'running') return [];
  const button = (word, act, title) =>
    make('button', { type: 'button', title, 'aria-label': `${word} match ${match.id}`, onclick: (event) => attempt(event.target, match.id, act) }, word);
  const made = [
    button('Finish', finish, 'Its game server finishes it, as when the game is over'),
    button('Release', release, 'It is not wanted any more: the bridge ends it'),
  ];
  if (may.voice) {
    const room = `/room?match=${encodeURIComponent(match.id)}`;
    made.unshift(make('a', { class: 'button', href: room, 'aria-label': `Join the voice of match ${match.id}` }, 'Join voice'));
  }
  return made;
}

async function start(event) {
  event.preventDefault();
  const [button, city] = [find('start-button'), find('start-city').value.slice(1)];
  button.disabled = true;
  say(find('match-word'), 'Looking for a server…');
  const body = {
    selectors: [{ query: city ? { Location: { City: city } } : {} }],
    players: [{ user_id: `page-${crypto.randomUUID().slice(0, 8)}` }],
    max_players: SEATS,
    settings: { game_mode: 'DEATH_MATCH', map_guid: 'map-01', join_mode: 'free' },
    voice: { match: may.voice },
  };
  try {
    const match = await call('POST', '/v1/matches', { body, key: crypto.randomUUID() });
    say(find('match-word'), `Match ${brief(match.id)} runs on server ${match.instance.id} in ${named(match.instance.city)}.`);
  } catch (error) {
    say(find('match-word'), words(error));
  }
  button.disabled = false;
}

async function finish(path) {
  await call('POST', `${path}/finish`);
  return 'has been finished by its game server';
}

async function release(path) {
  const match = await call('DELETE', path);
  return match.state === 'ended' ? 'is over, its server is free' : 'is ending: its server cannot be reached yet';
}

async function attempt(button, id, act) {
  button.disabled = true;
  try {
    say(find('match-word'), `Match ${brief(id)} ${await act(`/v1/matches/${encodeURIComponent(id)}`)}.`);
  } catch (error) {
    say(find('match-word'), words(error));
    button.disabled = false;
  }
}

function words(error) {
  return error instanceof Problem ? `Refused (${error.kind}): ${error.message}` : 'The bridge does not answer.';
}

function showTimeline(newest) {
  const now = Date.now();
  const begin = now - WINDOW_MS;
  const isSeen = (match) => match.state !== 'ended' || match.steps.at(-1).at.getTime() > begin;
  const lanes = newest.filter(isSeen).slice(0, LANES_MAX);
  const picture = find('timeline');
  const width = Math.max(LANE.width, picture.clientWidth);
  const x = (time) => LANE.left + (Math.max(0, time - begin) / WINDOW_MS) * (width - LANE.left);
  const height = LANE.axis + Math.max(1, lanes.length) * (LANE.height + LANE.gap);
  const parts = [];
  for (let minute = 0; minute <= 5; minute += width < 500 ? 5 : 1) {
    const at = x(now - minute * 60_000);
    parts.push(draw('line', { class: 'grid', x1: at, x2: at, y1: LANE.axis, y2: height }));
    const anchor = minute === 0 ? 'end' : minute === 5 ? 'start' : 'middle';
    parts.push(draw('text', { class: 'tick', x: at, y: 12, 'text-anchor': anchor }, minute === 0 ? 'now' : `−${minute} min`));
  }
  lanes.forEach((match, at) => parts.push(lane(match, LANE.axis + at * (LANE.height + LANE.gap), x, now, width)));
  picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
  picture.setAttribute('height', height);
  picture.replaceChildren(draw('title', {}, `Matches of the last five minutes: ${lanes.length}`), ...parts);
}

function lane(match, y, x, now, width) {
  const group = draw('g', {});
  group.append(draw('text', { class: 'label', x: 0, y: y + 15 }, brief(match.id)));
  match.steps.forEach((step, at) => {
    const [from, next] = [x(step.at.getTime()), match.steps[at + 1]];
    const to = x(next ? next.at.getTime() : now);
    if (step.state === 'ended') {
      group.append(draw('text', { class: 'tick', x: Math.min(from + 6, width - 52), y: y + 15 }, match.reason ?? 'ended'));
      return;
    }
    const length = Math.max(3, to - from);
    group.append(draw('rect', { class: `step ${step.state}`, x: from, y, width: length, height: LANE.height, rx: 3 }, draw('title', {}, `${step.state} since ${clock(step.at)}`)));
    if (length > 56) group.append(draw('text', { class: 'on', x: from + 6, y: y + 15 }, step.state));
  });
  return group;
}
