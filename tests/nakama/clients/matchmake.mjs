// Two real Nakama clients ask the matchmaker for a match, and print what they are notified of:
// {"notifications": [{"userId", "subject", "code", "content"}, …]}. Both must also hear Nakama's own word of the match.
//
// node matchmake.mjs HOST PORT SERVER_KEY
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';

// Longer than the matchmaker's interval and the bridge's deadline together.
const WAIT_MAX_MS = 45_000;
const SUBJECTS = ['bifrost.match', 'bifrost.no_match'];

globalThis.WebSocket ??= WebSocket;

const [host, port, serverKey] = process.argv.slice(2);

async function player(name, team, run) {
  const client = new Client(serverKey, host, port, false);
  const session = await client.authenticateCustom(`bifrost-${run}-${name}`, true);
  const socket = client.createSocket(false, false);
  const notified = new Promise((resolve) => {
    socket.onnotification = ({ subject, code, content }) => {
      if (SUBJECTS.includes(subject)) resolve({ userId: session.user_id, subject, code, content });
    };
  });
  const matched = new Promise((resolve) => {
    socket.onmatchmakermatched = ({ token }) => resolve(token);
  });
  await socket.connect(session, false);
  // The query keeps players of other runs out.
  await socket.addMatchmaker(`+properties.run:${run}`, 2, 2, { team, run }, { latency_europe: 12.5 });
  return { notified, matched };
}

setTimeout(() => {
  console.error('the players were not told of their match');
  process.exit(1);
}, WAIT_MAX_MS);
const run = `r${process.pid}x${Date.now()}`;
const players = await Promise.all([player('one', 'red', run), player('other', 'blue', run)]);
const notifications = await Promise.all(players.map(({ notified }) => notified));
const tokens = await Promise.all(players.map(({ matched }) => matched));
if (new Set(tokens).size !== 1 || !tokens[0]) {
  console.error('Nakama has not told both players of one match');
  process.exit(1);
}
// Closing the sockets in an orderly way would take half a minute.
process.stdout.write(JSON.stringify({ notifications }) + '\n', () => process.exit(0));
