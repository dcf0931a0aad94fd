// The overview: signs in, then lets servers, matches and voice follow what happens.
import { call, signIn } from './api.js';
import * as chart from './chart.js';
import { find, say } from './dom.js';
import { follow, poll } from './events.js';
import * as matches from './matches.js';
import * as servers from './servers.js';

const WORDS = {
  live: 'live',
  polling: 'looking every 2 s',
  away: 'no answer from the bridge',
};

const RIGHTS = {
  write: 'may change',
  read: 'read only',
  look: 'read only, without a token',
};

const may = await signIn('look');
find('content').hidden = false;
say(find('rights'), RIGHTS[may.access]);
const seesMatches = may.matches && may.access !== 'look';
find('matches-section').hidden = !seesMatches;
servers.begin();
chart.begin();
if (seesMatches) matches.begin(may);

const state = (word) => {
  say(find('connection'), WORDS[word]);
  find('connection').className = `badge ${word}`;
};

async function load() {
  const overview = await call('GET', '/v1/overview');
  servers.replace(overview.servers);
  if (seesMatches) await matches.load();
}

function told(kind, event) {
  if (kind.startsWith('instance.')) servers.put(event.data, kind === 'instance.removed');
  else if (kind.startsWith('match.') && seesMatches) matches.told(kind, event);
}

if (may.events && may.access !== 'look') follow({ load, told, state });
else poll({ load, state });
