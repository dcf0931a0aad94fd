// Small words for making elements. Text is always set as text: nothing that a server sends is read as HTML.

/** An element: `make('td', { class: 'number' }, 'text', child)`. Values that are null or false leave the attribute out. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  assign(element, attributes);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The same for SVG. */
export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  assign(element, attributes);
  element.append(...children);
  return element;
}

function assign(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
}

/** The element with this id. */
export const find = (id) => document.getElementById(id);

/** Sets the text of an element, and leaves it alone when it is the same: screen readers would say it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const STATES = new Set(['idle', 'reserved', 'occupied', 'starting', 'voice', 'pending', 'running', 'ending', 'ended', 'down']);

/** A state, by its name and a mark; the colour only repeats it. `kind` is another state whose look it has. */
export function badge(state, kind = state) {
  const look = STATES.has(kind) ? kind : 'other';
  return make('span', { class: `badge ${look}` }, state || 'unknown');
}

/** A number of things: 1 server, 2 servers. */
export const many = (number, thing) => `${number} ${thing}${number === 1 ? '' : 's'}`;

/** A time of day, to the second. */
export function clock(date) {
  return date.toLocaleTimeString(undefined, { hour12: false });
}

/** A span of time in words: 42 s, 3 min, 2 h. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
