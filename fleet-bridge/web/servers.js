// The servers: how many of which state are where, and the table that follows them.
import { badge, find, make, many, say } from './dom.js';

/** Rows that are shown at once; the filters find the others. */
const ROWS_MAX = 200;

/** The states that are counted by name, in the order in which they are shown. */
const COUNTED = ['idle', 'reserved', 'occupied'];

const servers = new Map();
const rows = new Map();
let planned = false;

/** All servers, as the overview lists them. */
export function replace(list) {
  servers.clear();
  for (const server of list) servers.set(server.id, server);
  plan();
}

/** One server as an event shows it; gone, if `removed`. */
export function put(server, removed) {
  if (removed) servers.delete(server.id);
  else servers.set(server.id, server);
  plan();
}

/** A server by its id. */
export const get = (id) => servers.get(id);

/** The cities with servers, in alphabetical order. */
export function cities() {
  const known = [...servers.values()].filter((server) => server.state !== 'voice');
  return [...new Set(known.map((server) => server.city))].sort();
}

/** Begins to show. */
export function begin() {
  for (const id of ['search', 'state-filter', 'city-filter']) find(id).addEventListener('input', plan);
  find('filters').addEventListener('reset', () => setTimeout(plan));
  find('filters').addEventListener('submit', (event) => event.preventDefault());
}

/** However many events come at once, they are drawn once. */
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    showLocations();
    showOptions();
    showTable();
  });
}

/** What a server is doing; of one that is not well, what the Fleet says: its own word may be an old one. */
function stateOf(server) {
  if (server.is_healthy) return server.state || 'unknown';
  return server.status === 'running' ? 'unhealthy' : server.status;
}

function kindOf(server) {
  const state = stateOf(server);
  return COUNTED.includes(state) ? state : 'other';
}

function showLocations() {
  const places = new Map();
  for (const server of servers.values()) {
    const place = places.get(server.city) ?? { city: server.city, country: server.country, total: 0, players: 0, idle: 0, reserved: 0, occupied: 0, other: 0 };
    place.total += 1;
    place.players += server.player_count;
    place[kindOf(server)] += 1;
    places.set(server.city, place);
  }
  const ordered = [...places.values()].sort((a, b) => a.city.localeCompare(b.city));
  find('locations').replaceChildren(...ordered.map(location));
  const count = (kind) => ordered.reduce((sum, place) => sum + place[kind], 0);
  for (const kind of ['total', 'players', ...COUNTED, 'other']) say(find(`sum-${kind}`), String(count(kind)));
}

function location(place) {
  const kinds = [...COUNTED, 'other'].filter((kind) => place[kind] > 0);
  const bar = make('div', { class: 'bar', 'aria-hidden': 'true' });
  for (const kind of kinds) {
    const part = make('span', { class: kind });
    part.style.flexGrow = String(place[kind]);
    bar.append(part);
  }
  const words = kinds.map((kind) => make('span', { class: `count ${kind}` }, `${place[kind]} ${kind}`));
  const title = make('h3', {}, named(place.city), ' ', make('small', {}, named(place.country)));
  const total = make('p', { class: 'total' }, `${many(place.total, 'server')}, ${many(place.players, 'player')}`);
  return make('li', {}, title, total, bar, make('p', { class: 'counts' }, ...words));
}

/** The Fleet's names are words with dashes. */
export function named(name) {
  return name ? name.split('-').map((word) => word[0]?.toUpperCase() + word.slice(1)).join(' ') : '–';
}

function showOptions() {
  const states = [...new Set([...servers.values()].map(stateOf))].sort();
  options(find('state-filter'), states, (state) => state);
  options(find('city-filter'), [...new Set([...servers.values()].map((server) => server.city))].sort(), named);
  options(find('start-city'), cities(), named);
}

/** Brings a list of choices up to date, and leaves what is chosen alone. */
function options(select, values, name) {
  const wanted = values.map((value) => `=${value}`);
  const shown = [...select.options].slice(1).map((option) => option.value);
  if (wanted.join('\n') === shown.join('\n')) return;
  const chosen = select.value;
  const made = values.map((value) => make('option', { value: `=${value}` }, name(value)));
  select.replaceChildren(select.options[0], ...made);
  select.value = chosen;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

function isWanted(server, search, state, city) {
  if (state && `=${stateOf(server)}` !== state) return false;
  if (city && `=${server.city}` !== city) return false;
  if (!search) return true;
  const text = [server.id, server.name, server.city, server.country, server.match_id, server.address, server.status];
  return text.join(' ').toLowerCase().includes(search);
}

function showTable() {
  const search = find('search').value.trim().toLowerCase();
  const [state, city] = [find('state-filter').value, find('city-filter').value];
  const found = [...servers.values()].filter((server) => isWanted(server, search, state, city));
  found.sort((a, b) => Number(a.id) - Number(b.id));
  const shown = found.slice(0, ROWS_MAX);
  const text = found.length > ROWS_MAX
    ? `The first ${ROWS_MAX} of ${found.length}; filter to see others.`
    : `${found.length} of ${servers.size} servers`;
  say(find('shown'), text);
  const wanted = new Set(shown.map((server) => server.id));
  for (const [id, row] of rows) {
    if (!wanted.has(id)) {
      row.element.remove();
      rows.delete(id);
    }
  }
  const body = find('servers');
  shown.forEach((server, at) => {
    const element = rowOf(server);
    if (body.children[at] !== element) body.insertBefore(element, body.children[at] ?? null);
  });
}

/** The row of a server; its cells are made anew only when they say something else. */
function rowOf(server) {
  const text = JSON.stringify(server);
  const row = rows.get(server.id) ?? { element: make('tr', { 'data-server': server.id }), text: null };
  if (row.text === text) return row.element;
  const isNews = row.text !== null;
  row.text = text;
  rows.set(server.id, row);
  const address = server.address ? `${server.address}:${server.port ?? '–'}` : '–';
  row.element.replaceChildren(
    make('th', { scope: 'row' }, server.id),
    make('td', {}, named(server.city)),
    make('td', {}, badge(stateOf(server), server.is_healthy ? server.state : 'down')),
    make('td', { class: 'number' }, String(server.player_count)),
    make('td', { class: 'id' }, server.match_id ? make('span', { title: server.match_id }, brief(server.match_id)) : '–'),
    make('td', { class: 'id wide' }, address),
    make('td', { class: 'wide' }, server.status),
  );
  if (isNews) {
    row.element.classList.remove('news');
    requestAnimationFrame(() => row.element.classList.add('news'));
  }
  return row.element;
}

/** The end of a long id is what differs. */
export function brief(id) {
  return id.length > 14 ? `${id.slice(0, 2)}…${id.slice(-8)}` : id;
}
