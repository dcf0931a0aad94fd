// The bridge's interface, and the token that opens it. The token lives as long as the tab.
import { find, say } from './dom.js';

const KEY = 'bifrost.token';

/** Nobody waits longer for an answer; starting a match may take ten seconds by itself. */
const CALL_MAX_MS = 30_000;

/** What the bridge refuses: its words, the stable `kind`, and the status. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `the bridge answers ${status}`);
    this.status = status;
    this.kind = body?.kind ?? 'unreadable';
  }
}

/** The headers that show the token, if there is one. */
export function credentials() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Calls the bridge; gives the answer's JSON or throws a `Problem`. */
export async function call(method, path, { body, key } = {}) {
  const headers = { ...credentials() };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key) headers['idempotency-key'] = key;
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: 'no-store',
    signal: AbortSignal.timeout(CALL_MAX_MS),
  });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(response.status, answer);
  return answer;
}

/** What this tab's caller may do. */
export const access = () => call('GET', '/v1/access');

/**
 * Asks for a token until one opens the page; gives what it may do. `least` names what is enough without one: `look` or
 * `read`. A token that this tab has from before is tried first.
 */
export async function signIn(least) {
  const enough = { look: ['look', 'read', 'write'], read: ['read', 'write'] }[least];
  const form = find('sign-in');
  let may = await access();
  while (!enough.includes(may.access)) {
    const had = sessionStorage.getItem(KEY) !== null;
    sessionStorage.removeItem(KEY);
    say(find('sign-in-problem'), had ? 'The bridge does not know this token.' : '');
    sessionStorage.setItem(KEY, await typed(form));
    may = await access();
  }
  form.hidden = true;
  const out = find('sign-out');
  out.hidden = sessionStorage.getItem(KEY) === null;
  out.addEventListener('click', () => {
    sessionStorage.removeItem(KEY);
    location.reload();
  });
  const into = find('sign-in-again');
  into.hidden = may.access !== 'look';
  into.addEventListener('click', async () => {
    into.hidden = true;
    sessionStorage.setItem(KEY, await typed(form));
    location.reload();
  });
  return may;
}

function typed(form) {
  form.hidden = false;
  const field = find('token');
  field.value = '';
  field.focus();
  return new Promise((resolve) => {
    const submitted = (event) => {
      event.preventDefault();
      const token = field.value.trim();
      // A header takes nothing else.
      if (!/^[\x21-\x7e]+$/.test(token)) {
        say(find('sign-in-problem'), 'A token is one line of visible ASCII characters.');
        return;
      }
      form.removeEventListener('submit', submitted);
      field.value = '';
      resolve(token);
    };
    form.addEventListener('submit', submitted);
  });
}
