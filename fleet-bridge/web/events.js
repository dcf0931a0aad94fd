// What happens, as it happens: the bridge's server-sent events. Read with `fetch`, because `EventSource` cannot show a
// token. While they cannot be had, the lists are read again and again.
import { credentials } from './api.js';

/** Between two attempts to follow the events: doubles from the first to the last. */
const RETRY_MS = [500, 10_000];

/** Between two looks at the lists while there are no events. */
const POLL_MS = 2_000;

/** The bridge sends something every 15 seconds; a connection that is silent longer is none. */
const SILENCE_MS = 40_000;

/** Longest event, in characters: the bridge's have a few hundred. */
const EVENT_CHARACTERS_MAX = 1_000_000;

/** Takes the stream apart: feed it text, and it gives whole events `{ id, kind, data }`. */
export class Parser {
  #rest = '';

  feed(text) {
    this.#rest += text;
    if (this.#rest.length > EVENT_CHARACTERS_MAX) throw new Error('an event has no end');
    const blocks = this.#rest.split('\n\n');
    this.#rest = blocks.pop();
    return blocks.map(parse);
  }
}

function parse(block) {
  const event = { id: null, kind: null, data: '' };
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    const [name, text] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
    if (name === 'id') event.id = text;
    else if (name === 'event') event.kind = text;
    else if (name === 'data') event.data += text;
  }
  return event;
}

/**
 * Follows for as long as the page is there.
 * `load()` reads the lists; `told(kind, event)` takes an event; `state(word)` hears `live`, `polling` or `away`.
 */
export async function follow({ load, told, state }) {
  let last = null;
  let wait = RETRY_MS[0];
  for (;;) {
    const poll = setInterval(() => load().then(() => state('polling'), () => state('away')), POLL_MS);
    const opened = async () => {
      clearInterval(poll);
      wait = RETRY_MS[0];
      // What happens from here on is told; what was before is in the lists.
      await load();
      state('live');
    };
    try {
      await connection(last, opened, (event) => {
        last = event.id ?? last;
        if (event.kind === 'reset') return load();
        if (event.kind) told(event.kind, JSON.parse(event.data));
      });
    } catch {
      // A connection that breaks is taken up again, whatever broke it.
    }
    clearInterval(poll);
    await load().then(() => state('polling'), () => state('away'));
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, RETRY_MS[1]);
  }
}

async function connection(last, opened, told) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const headers = { ...credentials(), ...(last ? { 'last-event-id': last } : {}) };
    const response = await fetch('/v1/events', { headers, cache: 'no-store', signal: silence.signal });
    if (!response.ok) throw new Error(`the bridge answers ${response.status}`);
    await opened();
    const parser = new Parser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      for (const event of parser.feed(value)) await told(event);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

/** Only looks, again and again: for those who may not follow the events. */
export function poll({ load, state }) {
  const look = () => load().then(() => state('polling'), () => state('away'));
  setInterval(look, POLL_MS);
  return look();
}
