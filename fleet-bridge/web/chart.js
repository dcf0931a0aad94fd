// Voice servers: their figures, and a small chart of packets and latency for each.
import { call } from './api.js';
import { draw, find, make, say } from './dom.js';

/** Between two looks at the figures. */
const LOOK_MS = 2_000;

/** Points of a chart: two minutes. */
const POINTS_MAX = 60;

const CHART = { width: 320, height: 72, left: 4, right: 4, top: 8, bottom: 4 };

const meters = new Map();

/** Begins to look. */
export function begin() {
  const look = () => call('GET', '/v1/voice/nodes').then(show, () => say(find('voice-word'), 'The figures cannot be had at the moment.'));
  setInterval(look, LOOK_MS);
  look();
}

function show({ metered, reported }) {
  const isEmpty = metered.length + reported.length === 0;
  say(find('voice-word'), isEmpty ? 'This bridge knows of no voice servers: its settings name none, and none runs on the Fleet.' : '');
  const cards = metered.map((meter) => {
    const known = meters.get(meter.address) ?? { ...card(meter.address), last: null, points: [] };
    meters.set(meter.address, known);
    look(known, meter);
    return known.element;
  });
  const list = find('voice-nodes');
  cards.forEach((element, at) => {
    if (list.children[at] !== element) list.insertBefore(element, list.children[at] ?? null);
  });
  while (list.children.length > cards.length) list.lastChild.remove();
  find('reported-table').hidden = reported.length === 0;
  find('reported').replaceChildren(...reported.map(row));
}

function row({ id, city, node }) {
  const load = Number(node.load);
  return make('tr', {},
    make('th', { scope: 'row' }, id),
    make('td', {}, city),
    make('td', { class: 'id wide' }, String(node.address ?? '–')),
    make('td', { class: 'number' }, Number.isFinite(load) ? `${Math.round(load * 100)} %` : '–'),
    make('td', { class: 'number' }, String(node.rooms ?? '–')),
    make('td', { class: 'number' }, String(node.peers ?? '–')),
    make('td', {}, node.draining === true ? 'draining' : 'takes rooms'));
}

function card(address) {
  const parts = { title: make('h3', {}, address, ' '), word: make('span', { class: 'badge' }), load: make('meter', { min: 0, max: 1, low: 0.6, high: 0.85, optimum: 0, 'aria-label': `Load of ${address}` }), figures: make('p', { class: 'total' }) };
  parts.packets = picture('Packets a second', 'in', 'out');
  parts.latency = picture('Forwarding, ms', 'median', '99th');
  parts.title.append(parts.word);
  parts.element = make('li', { 'data-voice-node': address }, parts.title, make('p', { class: 'load' }, 'load ', parts.load, ' ', (parts.percent = make('span', {}))), parts.figures, make('div', { class: 'charts' }, parts.packets.element, parts.latency.element));
  return parts;
}

function picture(title, first, second) {
  const svg = draw('svg', { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: 'img', class: 'chart' });
  const text = make('span', {});
  const legend = make('span', { class: 'legend' }, make('i', { class: 'first' }), ` ${first} `, make('i', { class: 'second' }), ` ${second}`);
  return { title, names: [first, second], svg, text, element: make('figure', {}, make('figcaption', {}, make('b', {}, title), legend, text), svg) };
}

function look(known, meter) {
  const now = performance.now();
  say(known.word, meter.is_up ? 'up' : 'away');
  known.word.className = `badge ${meter.is_up ? 'running' : 'ended'}`;
  known.load.value = meter.load;
  say(known.percent, `${Math.round(meter.load * 100)} %`);
  say(known.figures, `Clients ${meter.clients}, peers ${meter.peers}, rooms ${meter.rooms}`);
  const last = known.last;
  known.last = meter.is_up ? { meter, now } : null;
  if (!last || !meter.is_up || now <= last.now) return;
  const seconds = (now - last.now) / 1000;
  const rate = (name) => Math.max(0, meter[name] - last.meter[name]) / seconds;
  known.points.push({ packets: [rate('packets_in'), rate('packets_out')], latency: quantiles(last.meter.forwards, meter.forwards) });
  known.points.splice(0, known.points.length - POINTS_MAX);
  plot(known.packets, known.points.map((point) => point.packets), (value) => `${Math.round(value)}`);
  plot(known.latency, known.points.map((point) => point.latency), (value) => value.toFixed(2));
}

/** The median and the 99th percentile, in milliseconds, of what has gone out between two looks; null without any. */
export function quantiles(before, after) {
  const earlier = new Map(before.map((step) => [step.within_seconds, step.count]));
  const steps = after.map((step) => ({ seconds: step.within_seconds, count: step.count - (earlier.get(step.within_seconds) ?? 0) }));
  const total = steps.at(-1)?.count ?? 0;
  if (total <= 0) return [null, null];
  return [0.5, 0.99].map((share) => {
    const at = steps.findIndex((step) => step.count >= total * share);
    const [step, under] = [steps[at], steps[at - 1] ?? { seconds: 0, count: 0 }];
    // Beyond the last bound nothing is known but that it is beyond.
    if (step.seconds === null) return under.seconds * 1000;
    const part = (total * share - under.count) / Math.max(1, step.count - under.count);
    return (under.seconds + (step.seconds - under.seconds) * part) * 1000;
  });
}

function plot(chart, points, word) {
  const values = points.flat().filter((value) => value !== null);
  const top = Math.max(...values, 0) * 1.15 || 1;
  const x = (at) => CHART.left + (at / (POINTS_MAX - 1)) * (CHART.width - CHART.left - CHART.right);
  const y = (value) => CHART.height - CHART.bottom - (value / top) * (CHART.height - CHART.top - CHART.bottom);
  const first = POINTS_MAX - points.length;
  const line = (which, name) => {
    let path = '';
    let isDrawing = false;
    points.forEach((point, at) => {
      if (point[which] !== null) path += `${isDrawing ? 'L' : 'M'}${x(first + at).toFixed(1)} ${y(point[which]).toFixed(1)}`;
      isDrawing = point[which] !== null;
    });
    return draw('path', { class: name, d: path });
  };
  const isNone = points.at(-1).every((value) => value === null);
  const newest = isNone ? 'no packets' : points.at(-1).map((value, at) => `${word(value)} ${chart.names[at]}`).join(', ');
  say(chart.text, newest);
  const base = CHART.height - CHART.bottom;
  chart.svg.replaceChildren(
    draw('title', {}, `${chart.title}, the last two minutes; now ${newest}`),
    draw('line', { class: 'grid', x1: 0, x2: CHART.width, y1: base, y2: base }),
    draw('text', { class: 'tick', x: 0, y: 10 }, word(top)),
    line(1, 'second'),
    line(0, 'first'));
}
